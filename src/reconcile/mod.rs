//! The heart: what is wanted, what is there, what differs, and carrying it out until nothing differs.

pub mod apply;
pub mod desired;
pub mod observe;
pub mod plan;
pub mod rounds;
