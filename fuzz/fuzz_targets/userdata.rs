#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lbctl_fuzz::targets::userdata(data));
