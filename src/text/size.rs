//! Sizes as people read them.

use std::fmt;

/// A size for people: whole binary units where they fit, bytes where not.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        for (unit, shift) in [("GiB", 30u32), ("MiB", 20), ("KiB", 10)] {
            if bytes >= 1 << shift {
                #[allow(clippy::cast_precision_loss)] // for display only
                let amount = bytes as f64 / f64::from(1u32 << shift);
                return if bytes % (1 << shift) == 0 {
                    write!(f, "{amount:.0} {unit}")
                } else {
                    write!(f, "{amount:.1} {unit}")
                };
            }
        }
        write!(f, "{bytes} bytes")
    }
}
