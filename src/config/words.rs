//! Values that are written as one of a few words: each word stands once, for the reader and for the
//! declaration of its key.

use super::model::{Balance, DiskFormat, DomainType, MainRole, Role, Runtime};
use super::patroni::TlsMode;
use crate::cert::KeyAlgorithm;

pub(super) trait Word: Sized {
    const WORDS: &'static [&'static str];

    fn from_word(word: &str) -> Option<Self>;

    fn word(&self) -> &'static str;
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

            fn word(&self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words!(DiskFormat { "qcow2" => Qcow2, "raw" => Raw });
words!(Runtime { "container" => Container, "package" => Package });
words!(KeyAlgorithm { "ecdsa-p256" => EcdsaP256, "rsa-4096" => Rsa4096 });
words!(TlsMode { "mutual" => Mutual, "server" => Server, "off" => Off });
words!(Role {
    "primary" => Primary,
    "standby_leader" => StandbyLeader,
    "leader" => Leader,
    "replica" => Replica,
    "sync" => Sync,
    "async" => Async,
    "any" => Any
});
words!(MainRole { "primary" => Primary, "standby_leader" => StandbyLeader, "leader" => Leader });
words!(Balance {
    "leastconn" => LeastConn,
    "roundrobin" => RoundRobin,
    "static-rr" => StaticRoundRobin,
    "first" => First,
    "source" => Source,
    "random" => Random
});
words!(DomainType { "auto" => Auto, "kvm" => Kvm, "qemu" => Qemu });
