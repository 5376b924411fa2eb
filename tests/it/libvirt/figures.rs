//! How much of a long test is run, and what it found: CI runs a part, `./dev soak` all of it.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How often: `LBCTL_SOAK_<NAME>` if it is given, else `full` under `./dev soak`, else `ci`.
pub fn count(name: &str, ci: usize, full: usize) -> usize {
    match std::env::var(format!("LBCTL_SOAK_{name}")) {
        Ok(given) => given.parse().expect("a number"),
        Err(_) if soaking() => full,
        Err(_) => ci,
    }
}

pub fn soaking() -> bool {
    std::env::var_os("LBCTL_SOAK").is_some()
}

/// Prints a figure, and adds it to the summary of `./dev soak`.
pub fn tell(text: impl Display) {
    eprintln!("figure: {text}");
    if let Some(path) = std::env::var_os("LBCTL_SOAK_FIGURES") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{text}").unwrap();
    }
}

/// Numbers that look random and can be repeated: a seed determines what a test does (`SplitMix64`).
pub struct Dice(u64);

impl Dice {
    /// From `LBCTL_SOAK_SEED`, or the clock; printed, so that a failure can be repeated.
    pub fn new(of: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self::or(of, now.as_secs())
    }

    /// The same each time, but under `./dev soak`.
    pub fn repeated(of: &str, seed: u64) -> Self {
        if soaking() {
            Self::new(of)
        } else {
            Self::or(of, seed)
        }
    }

    fn or(of: &str, seed: u64) -> Self {
        let seed = match std::env::var("LBCTL_SOAK_SEED") {
            Ok(given) => given.parse().expect("a number"),
            Err(_) => seed,
        };
        eprintln!("{of}: LBCTL_SOAK_SEED={seed}");
        Self(seed)
    }

    /// One of 0 to `end`, without `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}
