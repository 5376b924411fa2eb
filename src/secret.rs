//! Text that must never be shown: its `Debug` is a mask, it has no `Display`, and its memory is
//! wiped when dropped. Reading it is spelled out with [`Secret::expose`], so that every place which
//! does so can be found.

use std::fmt;

use zeroize::Zeroize;

/// What replaces a secret in everything that is printed.
pub const MASK: &str = "********";

/// A password, private key or shared key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Only for the place that writes it where it belongs (the seed, the signer).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_mask_and_nothing_of_the_text() {
        let shown = format!(
            "{:?} {:#?}",
            Secret::new("hunter2"),
            Some(Secret::new("hunter2"))
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains(MASK));
    }
}
