//! Values that are written as one of a few words: each word stands once, for the reader and for the
//! declaration of its key.

use super::model::{DiskFormat, DomainType, Runtime};
use crate::cert::KeyAlgorithm;

pub(super) trait Word: Sized {
    const WORDS: &'static [&'static str];

    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident),+ }) => {
        impl Word for $type {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(DiskFormat { "qcow2" => Qcow2, "raw" => Raw });
words!(Runtime { "container" => Container, "package" => Package });
words!(KeyAlgorithm { "ecdsa-p256" => EcdsaP256, "rsa-4096" => Rsa4096 });
words!(DomainType { "auto" => Auto, "kvm" => Kvm, "qemu" => Qemu });
