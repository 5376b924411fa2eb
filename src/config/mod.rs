//! From TOML text to a checked [`Config`]: all problems in one report. The only place that reads files and the environment
//! on behalf of the configuration. Nothing here knows libvirt.

mod model;
mod types;

pub use model::*;
pub use types::*;
