//! Text that must never be shown: its `Debug` is a mask, it has no `Display`, and its memory is
//! wiped when dropped. Reading it is spelled out with [`Secret::expose`], so that every place which
//! does so can be found.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroize;

/// What replaces a secret in everything that is printed.
pub const MASK: &str = "********";

/// A password, private key or shared key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Cow<'static, str>);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// A text of the program itself, which is no secret and stands where one may stand. It is not
    /// copied.
    #[must_use]
    pub const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The text itself. Only for the place that writes it where it belongs (the seed, the signer).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Secret {
    /// The text as bytes of somebody who takes care of them from now on; nothing is copied.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into_owned().into_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
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
