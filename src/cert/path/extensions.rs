//! Which critical extensions of a certificate OpenSSL knows.

use x509_parser::extensions::ParsedExtension;

use super::{Fault, Member, bad, unsure, worst};

/// Critical extensions that OpenSSL handles (`X509_supported_extension`).
const HANDLED: [&str; 10] = [
    "2.16.840.1.113730.1.1",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.37",
];
/// Those that only some versions handle, or that are judged by rules of their own.
const PERHAPS: [&str; 7] = [
    "2.5.29.14",
    "2.5.29.35",
    "2.5.29.54",
    "1.3.6.1.5.5.7.1.7",
    "1.3.6.1.5.5.7.1.8",
    "1.3.6.1.5.5.7.1.14",
    "1.3.6.1.5.5.7.48.1.5",
];

/// Critical extensions that nobody handles, and what cannot be read.
pub(super) fn unknown(path: &[&Member<'_>]) -> Option<Fault> {
    let mut faults = Vec::new();
    for (at, member) in path.iter().enumerate() {
        let mut seen = Vec::new();
        for extension in member.certificate.tbs_certificate.extensions() {
            let oid = extension.oid.to_id_string();
            if matches!(
                extension.parsed_extension(),
                ParsedExtension::ParseError { .. }
            ) || seen.contains(&oid)
            {
                faults.push(unsure(
                    at,
                    member,
                    "has an extension that cannot be read here",
                ));
            }
            if extension.critical && PERHAPS.contains(&oid.as_str()) {
                faults.push(unsure(
                    at,
                    member,
                    "has a critical extension that not every OpenSSL handles",
                ));
            } else if extension.critical && !HANDLED.contains(&oid.as_str()) {
                faults.push(bad(
                    at,
                    member,
                    &format!("has a critical extension that OpenSSL does not know ({oid})"),
                ));
            }
            seen.push(oid);
        }
    }
    worst(faults.into_iter())
}
