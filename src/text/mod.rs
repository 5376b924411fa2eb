//! Text as such: what of it a terminal may see, columns, tables, colours, sizes, XML's and YAML's
//! escapes, and changing XML in place. Knows nothing of lbctl's other modules.

pub mod edit;
pub mod sanitize;
pub mod size;
pub mod styled;
pub mod table;
pub mod width;
pub mod xml;
pub mod yaml;
