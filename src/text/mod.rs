//! Text as such: what of it a terminal may see. Knows nothing of lbctl's other modules.

pub mod sanitize;
