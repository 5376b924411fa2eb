//! A night: one fault after the other comes over a load balancer, and the operator knows no more
//! than what lbctl prints. Each is found by `lbctl status`, and mended by commands that lbctl
//! names. What is printed is kept in tests/transcripts/night*.txt.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration as Span;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SerialNumber};
use time::{Duration, OffsetDateTime};

use super::sandbox::Sandbox;
use crate::support::inputs::inputs;
use crate::support::run;
use crate::support::transcript::Transcript;

struct Night {
    vm: Sandbox,
    transcript: Transcript,
    /// What lbctl printed since the fault.
    said: String,
}

impl Night {
    fn falls(file: &str) -> Self {
        Self::over(Sandbox::new(), file)
    }

    fn over(vm: Sandbox, file: &str) -> Self {
        vm.up();
        let of_lab = ["@base", "@sleeping", "@net2", "@macvtap"];
        let mut words = vm.words();
        words.retain(|(word, _)| !of_lab.iter().any(|w| word.starts_with(w)));
        // The pool has the network's name, and `@net` stands for both.
        words.retain(|(word, _)| *word != "@pool");
        let transcript = Transcript::new(file, words);
        let said = String::new();
        Self {
            vm,
            transcript,
            said,
        }
    }

    fn lbctl(&mut self, typed: &str, code: i32) {
        let ran = self.vm.lbctl(typed.strip_prefix("lbctl ").unwrap());
        self.transcript.note(typed, &ran);
        self.said.push_str(&ran.stdout);
        self.said.push_str(&ran.stderr);
        ran.ended(code);
    }

    /// Something happens, and somebody looks.
    fn fault(&mut self, what: &str, commands: &str) {
        self.transcript.headed(what);
        if !commands.is_empty() {
            self.vm.virsh(commands).ok();
        }
        self.said.clear();
        self.lbctl("lbctl status", 1);
    }

    /// A command that lbctl has named since.
    fn follows(&mut self, typed: &str, code: i32) {
        let named = self.vm.fill(&format!("`{typed}"));
        assert!(
            self.said.contains(&named),
            "{typed} is not named in\n{}",
            self.said
        );
        match typed.strip_prefix("virsh ") {
            Some(command) => drop(self.vm.virsh(command).ended(code)),
            // A guest of this lab does not stop by itself.
            None if typed.contains("--restart now") => {
                self.lbctl(&format!("{typed} --stop-timeout 1s"), code);
            }
            None => self.lbctl(typed, code),
        }
    }

    fn is_mended(&mut self) {
        self.vm.lbctl("plan --exit-code").ok();
        assert_eq!(self.vm.dominfo("State"), "running");
    }

    /// A fault that is mended by these commands, each named by one before it.
    fn passes(&mut self, what: &str, commands: &str, named: &[(&str, i32)]) {
        self.fault(what, commands);
        for (typed, code) in named {
            self.follows(typed, *code);
        }
        self.is_mended();
    }
}

#[test]
fn each_fault_is_found_and_mended_by_what_is_printed() {
    let mut night = Night::falls("night.txt");
    let restart = [("lbctl plan", 0), ("lbctl up --restart now", 0)];

    for (what, commands) in [
        ("somebody has switched the VM off", "destroy @vm"),
        ("somebody has paused it", "suspend @vm"),
        (
            "the host was restarted, and saved its guests",
            "managedsave @vm",
        ),
    ] {
        night.passes(what, commands, &[("lbctl up", 0)]);
    }
    night.passes(
        "somebody has tidied up the pool: the seed is gone",
        "vol-delete @seed --pool @pool",
        &restart,
    );
    night.vm.keep_pool("@pool");
    night.passes(
        "the pool of seed and disk has been stopped",
        "pool-destroy @pool",
        &[("lbctl plan", 1), ("virsh pool-start @pool", 0)],
    );
    night.passes(
        "the network has been restarted under the guest",
        "net-destroy @net; net-start @net",
        &restart,
    );

    night.fault(
        "the VM is off and its network, too",
        "destroy @vm; net-destroy @net",
    );
    night.follows("lbctl plan", 1);
    night.follows("virsh net-start @net", 0);
    night.lbctl("lbctl status", 1);
    night.follows("lbctl up", 0);
    night.is_mended();

    let commit = "virsh blockcommit @vm vda --base @dir/@vm --active --pivot --wait";
    night.passes(
        "a backup tool has left its overlay",
        "snapshot-create-as @vm s1 --disk-only --no-metadata",
        &[("lbctl plan", 4), (commit, 0)],
    );

    night.fault(
        "somebody has edited it",
        "setmem @vm 128M --config; autostart --disable @vm",
    );
    night.follows("lbctl plan", 0);
    // On a terminal the hint below the plan names it.
    night.lbctl("lbctl up", 0);
    night.is_mended();

    night.transcript.compare();
}

/// A boot sector that writes into one cluster after the other of the first 4 MiB, and halts.
fn writer() -> Vec<u8> {
    #[rustfmt::skip]
    const CODE: [u8; 37] = [
        0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, // ds = ss = 0, sp = 7c00
        0xbe, 0x30, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13, // write what is at 7c30
        0x81, 0x06, 0x38, 0x7c, 0x80, 0x00, // 64 KiB further
        0x81, 0x3e, 0x38, 0x7c, 0x00, 0x20, 0x72, 0xe8, // again, below sector 2000
        0xfa, 0xf4, 0xeb, 0xfd, // halt
    ];
    /// One sector from 0:7c00 to sector 80.
    const PACKET: [u8; 16] = [16, 0, 1, 0, 0, 0x7c, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    let mut disk = vec![0; 64 * 1024];
    disk[..CODE.len()].copy_from_slice(&CODE);
    disk[0x30..0x40].copy_from_slice(&PACKET);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

impl Sandbox {
    /// The pool's folder, for libvirt and QEMU alone, becomes a file system of that size, or gets
    /// it.
    fn bound_pool(&self, mount: &str) {
        let pid = fs::read_to_string(Path::new(&self.lab["LAB_RUN"]).join("libvirtd.pid")).unwrap();
        let line = format!(
            "nsenter -m -t {} mount -t tmpfs {mount} tmpfs {}",
            pid.trim(),
            self.pool_dir.display()
        );
        run("sh", ["-c", &line]).ok();
    }
}

#[test]
fn a_full_pool_under_the_guest_is_found_and_mended() {
    let mut vm = Sandbox::new();
    vm.bound_pool("-o size=3m");
    let (raw, image) = (vm.fill("@home/raw"), vm.fill("@home/image"));
    fs::write(&raw, writer()).unwrap();
    run("qemu-img", ["convert", "-O", "qcow2", &raw, &image]).ok();
    vm.virsh(&format!(
        "vol-create-as @pool writer 64K --format qcow2; vol-upload writer {image} --pool @pool"
    ))
    .ok();
    vm.change(
        "volume = { base_volume_pool = '@pool', base_volume_name = 'writer', size = '64 MiB' }",
    );
    let mut night = Night::over(vm, "night-storage.txt");
    let paused = || {
        night
            .vm
            .virsh("domstate @vm --reason")
            .stdout
            .contains("I/O error")
    };
    assert!((0..300).any(|_| paused() || {
        sleep(Span::from_millis(100));
        false
    }));

    night.fault("the pool has become full under the guest", "");
    night.follows("virsh domblkerror @vm", 0);
    night.follows("virsh pool-info @pool", 0);
    night.transcript.headed("nobody has made room yet");
    night.follows("lbctl up", 1);
    night.transcript.headed("somebody has made room");
    night.vm.bound_pool("-o remount,size=32m");
    night.follows("lbctl up", 0);
    night.is_mended();
    night.transcript.compare();
}

/// Of the sandbox's CA, until then.
fn client_certificate(vm: &Sandbox, end: OffsetDateTime, serial: u8) {
    let read = |name: &str| fs::read_to_string(vm.home.path().join(name)).unwrap();
    let of_ca = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), of_ca).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "patroni-client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&[serial; 16]));
    params.not_before = end - Duration::days(90);
    params.not_after = end;
    let certificate = params.signed_by(&key, &issuer).unwrap();
    vm.write("client.crt", &certificate.pem());
    vm.write("client.key", &key.serialize_pem());
}

#[test]
fn an_expired_client_certificate_is_found_and_mended() {
    let mut vm = Sandbox::new();
    let end = OffsetDateTime::now_utc() + Duration::seconds(15);
    client_certificate(&vm, end, 1);
    vm.leave_out_of("haproxy", "patroni_client");
    vm.change(
        "haproxy.patroni_client = { ca_certificate = { file = 'ca.crt' }, certificate = { file = 'client.crt' }, key = { file = 'client.key' } }",
    );
    let mut night = Night::over(vm, "night-certificate.txt");
    let (hour, minute, second) = end.to_hms();
    night
        .transcript
        .also("@time", format!("{hour:02}:{minute:02}:{second:02}"));
    while OffsetDateTime::now_utc() <= end {
        sleep(Span::from_millis(100));
    }

    night.fault(
        "nobody has put the next client certificate in its place",
        "",
    );
    night.follows("lbctl renew", 2);
    night.transcript.headed("it is issued, and in its place");
    let end = OffsetDateTime::now_utc() + Duration::days(60) + Duration::hours(1);
    client_certificate(&night.vm, end, 2);
    night.follows("lbctl renew", 4);
    night.follows("lbctl up --restart now", 0);
    night.is_mended();
    night.vm.lbctl("status").says(&["60 days left"]);
    night.transcript.compare();
}

/// What stands in the way of lbctl itself.
#[test]
fn a_fault_on_the_way_to_the_host_is_named() {
    let mut night = Night::falls("night-way.txt");
    let home = night.vm.home.path().to_owned();

    night.transcript.headed("libvirt's daemon does not run");
    night.lbctl(
        "lbctl --connect qemu+unix:///system?socket=@home/absent status",
        1,
    );
    night.transcript.headed("a URI with a mistake in it");
    night.lbctl("lbctl --connect qemuu:///system status", 1);

    night
        .transcript
        .headed("the CA is another one than its key");
    let right = fs::read(home.join("ca.crt")).unwrap();
    let given = |name: &str| inputs().files[Path::new(name)].clone().unwrap();
    fs::write(home.join("ca.crt"), given("other.crt")).unwrap();
    night.lbctl("lbctl check", 2);
    // How many lines of ca.pem differ is chance.
    let says = ["due: the CA changed; `lbctl renew` renews it"];
    night.vm.lbctl("status").ended(1).says(&says);
    night.lbctl("lbctl renew", 2);
    night.transcript.headed("the CA has expired");
    let key = fs::read(home.join("ca.key")).unwrap();
    fs::write(home.join("ca.crt"), given("expired.crt")).unwrap();
    fs::write(home.join("ca.key"), given("expired.key")).unwrap();
    night.lbctl("lbctl check", 2);
    let says = [
        "unknown: issuing the client certificate: the CA's certificate: a CA certificate that expired on",
    ];
    night.vm.lbctl("status").ended(1).says(&says);
    night.lbctl("lbctl renew", 2);
    fs::write(home.join("ca.crt"), right).unwrap();
    fs::write(home.join("ca.key"), key).unwrap();
    night.vm.lbctl("check").ok();

    night.vm.down();
    night.vm.write(
        "foreign.xml",
        &night.vm.fill("<domain type='qemu'><name>@vm</name><memory>1024</memory><os><type>hvm</type></os></domain>"),
    );
    night.fault(
        "a VM of that name is somebody else's",
        "define @home/foreign.xml",
    );
    night.follows("lbctl plan", 4);
    night.lbctl("lbctl up", 4);
    night.lbctl("lbctl renew", 4);
    night.lbctl("lbctl down --yes", 4);
    night.vm.virsh("undefine @vm").ok();

    night.transcript.headed("the address is somebody else's");
    night.vm.virsh("net-update @net add ip-dhcp-host \"<host mac='52:54:00:12:34:56' name='other' ip='@ip'/>\" --live --config").ok();
    night.lbctl("lbctl up --reuse-disk", 4);
    night.transcript.compare();
}
