//! The admin's password as a hash of the kind `crypt(3)` reads: SHA-512 (`$6$`), chosen because
//! every guest's libcrypt has it. The salt is derived, because the same configuration must give the
//! same seed; a salt is not a secret, it only has to differ between VMs.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use sha_crypt::{Params, sha512_crypt};

use crate::config::{Config, PasswordHash};
use crate::secret::Secret;

/// What crypt(5) and passwd(1) take for SHA-512; some 5 ms, paid once in every run, also the one
/// that changes nothing.
const ROUNDS: u32 = 5_000;

/// The alphabet of crypt(3), which is not that of base64.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Hashes the admin's password, so that whoever renders the guest later in this run need not.
pub fn hash_password(config: &Config) {
    admin_password_hash(config);
}

/// `$6$rounds=…$salt$hash` of the admin's password. `None`: no password was given.
pub(super) fn admin_password_hash(config: &Config) -> Option<Secret> {
    let password = config.admin.password.as_ref()?;
    let first_mac = config
        .interfaces
        .first()
        .map(|i| i.mac.to_string())
        .unwrap_or_default();
    let salt = salt(config.name.as_str(), &first_mac);
    Some(kept_or_new(&config.admin.password_hash, password, &salt))
}

/// A configuration that was made from another one has what that has kept, for another password or
/// another VM.
fn kept_or_new(kept: &OnceLock<PasswordHash>, password: &Secret, salt: &str) -> Secret {
    let kept = kept.get_or_init(|| PasswordHash {
        hash: hash(password, salt),
        password: password.clone(),
        salt: salt.to_owned(),
    });
    if kept.salt == salt && kept.password == *password {
        kept.hash.clone()
    } else {
        hash(password, salt)
    }
}

/// 16 characters, the most that crypt(3) takes.
fn salt(name: &str, mac: &str) -> String {
    let seed = digest(
        &SHA256,
        format!("lbctl admin password salt\0{name}\0{mac}").as_bytes(),
    );
    seed.as_ref()
        .iter()
        .take(16)
        .map(|byte| letter(u32::from(*byte)))
        .collect()
}

#[expect(
    clippy::expect_used,
    reason = "a constant within the bounds of crypt(3)"
)]
fn hash(password: &Secret, salt: &str) -> Secret {
    let params = Params::new(ROUNDS).expect("a number of rounds that crypt(3) takes");
    let raw = sha512_crypt(password.expose().as_bytes(), salt.as_bytes(), params);
    Secret::new(format!("$6$rounds={ROUNDS}${salt}${}", encode(&raw)))
}

fn letter(six_bits: u32) -> char {
    char::from(ALPHABET[(six_bits & 0x3f) as usize])
}

/// crypt(3) takes the bytes in groups of three, 21 places apart and each time in another order,
/// lowest bits first.
fn encode(raw: &[u8; 64]) -> String {
    let mut text = String::with_capacity(86);
    let mut push =
        |bits: u32, letters: u32| (0..letters).for_each(|n| text.push(letter(bits >> (6 * n))));
    for group in 0..21 {
        let byte = |third: usize| u32::from(raw[group + 21 * ((third + group) % 3)]);
        push(byte(0) << 16 | byte(1) << 8 | byte(2), 4);
    }
    push(u32::from(raw[63]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `openssl passwd -6 -salt 'rounds=5000$saltstring' 'Hello world!'`
    #[test]
    fn hash_is_what_crypt_gives() {
        let hashed = hash(&Secret::new("Hello world!"), "saltstring");
        assert_eq!(
            hashed.expose(),
            include_str!("../../tests/render/hello-world.sha512crypt").trim_end()
        );
    }

    #[test]
    fn a_hash_is_kept_for_its_own_password_and_salt() {
        let kept = OnceLock::new();
        let asked = [("one", "salt"), ("two", "salt"), ("one", "other")];
        for (password, salt) in asked.into_iter().chain(asked) {
            let password = Secret::new(password);
            assert_eq!(
                kept_or_new(&kept, &password, salt),
                hash(&password, salt),
                "of {salt}"
            );
        }
        assert_eq!(kept.get().map(|kept| kept.salt.as_str()), Some("salt"));
    }

    #[test]
    fn salts_differ_between_virtual_machines_and_are_kept_for_one() {
        let one = salt("lb-1", "52:54:00:00:00:01");
        assert_eq!(one, salt("lb-1", "52:54:00:00:00:01"));
        assert_ne!(one, salt("lb-2", "52:54:00:00:00:01"));
        assert_ne!(one, salt("lb-1", "52:54:00:00:00:02"));
        assert_eq!(one.len(), 16);
    }
}
