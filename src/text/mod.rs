//! Text as such: what of it a terminal may see, columns, sizes, XML's escapes. Knows nothing of
//! lbctl's other modules.

pub mod sanitize;
pub mod size;
pub mod width;
pub mod xml;
