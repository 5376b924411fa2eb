//! What is desired, what is observed, what differs, and the steps until nothing differs.

pub mod apply;
pub mod desired;
pub mod observe;
pub mod plan;
pub mod rounds;
pub mod turns;
