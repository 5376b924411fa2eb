//! The fuzz targets. `./dev fuzz` builds and runs them; `tests/it/bad_input.rs` runs every file of the corpus through them.

pub mod targets;
