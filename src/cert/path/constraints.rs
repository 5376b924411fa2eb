//! Whether the names of a certificate are those that the CAs above it may issue for
//! (nameConstraints).

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};

use super::{Fault, Member, bad, unsure, worst};
use crate::cert::ca::printable;
use crate::cert::name::CanonicalName;

/// RFC 5280, section 4.2.1.10, as `NAME_CONSTRAINTS_check` has it.
pub(super) fn constraints(path: &[&Member<'_>]) -> Option<Fault> {
    let mut faults = Vec::new();
    for (at, member) in path.iter().enumerate() {
        // What a CA issues for itself is not bound, unless it is the last one.
        if at > 0 && member.is_self_issued() {
            continue;
        }
        for (above, issuer) in path.iter().enumerate().skip(at + 1) {
            let found = issuer.extensions().find_map(|extension| match extension {
                ParsedExtension::NameConstraints(constraints) => Some(constraints),
                _ => None,
            });
            if let Some(constraints) = found {
                let names = names(&member.certificate, at == 0);
                faults.extend(names.iter().filter_map(|name| {
                    let said = violates(name, constraints)?;
                    Some(match said {
                        Ok(said) => bad(above, issuer, &said),
                        Err(said) => unsure(above, issuer, &said),
                    })
                }));
            }
        }
    }
    worst(faults.into_iter())
}

/// A name that constraints may bind.
enum Bound {
    Directory(CanonicalName, String),
    Dns(String),
    Mail(String),
    Ip(Vec<u8>),
    Uri(String),
    Other,
}

/// The subject and its alternative names. Of a leaf without alternative DNS names, also a common
/// name that is one, that is, with a dot in it.
fn names(certificate: &X509Certificate<'_>, leaf: bool) -> Vec<Bound> {
    let subject = CanonicalName::new(certificate.subject());
    let mut names = Vec::new();
    let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        name.as_str().unwrap_or_default().to_owned()
    };
    if !subject.is_empty() {
        let shown = printable(&certificate.subject().to_string());
        names.push(Bound::Directory(subject, shown));
        let mails = certificate.subject().iter_email();
        names.extend(mails.map(|mail| Bound::Mail(text(mail))));
    }
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.map(|a| &a.value.general_names[..]);
    let mut has_dns = false;
    for name in alternative.unwrap_or_default() {
        names.push(match name {
            GeneralName::DNSName(name) => {
                has_dns = true;
                Bound::Dns((*name).to_owned())
            }
            GeneralName::RFC822Name(mail) => Bound::Mail((*mail).to_owned()),
            GeneralName::IPAddress(ip) => Bound::Ip(ip.to_vec()),
            GeneralName::URI(uri) => Bound::Uri((*uri).to_owned()),
            GeneralName::DirectoryName(name) => {
                Bound::Directory(CanonicalName::new(name), printable(&name.to_string()))
            }
            _ => Bound::Other,
        });
    }
    if leaf && !has_dns {
        let common = certificate.subject().iter_common_name().map(text);
        names.extend(common.filter(|cn| is_dns(cn)).map(Bound::Dns));
    }
    names
}

/// As `cn2dnsid` of OpenSSL: letters, digits, `_`, `-` and dots, and at least one dot inside.
fn is_dns(name: &str) -> bool {
    let part = |part: &str| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        !part.is_empty() && part.bytes().all(fine) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.contains('.') && name.split('.').all(part)
}

/// How the name violates the constraints: `Ok` for certain, `Err` perhaps.
fn violates(name: &Bound, constraints: &NameConstraints<'_>) -> Option<Result<String, String>> {
    let bases = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
        let all = subtrees.iter().flatten();
        all.map(|subtree| within(name, &subtree.base))
            .filter(|within| *within != Within::OtherKind)
            .collect::<Vec<Within>>()
    };
    let permitted = bases(&constraints.permitted_subtrees);
    let excluded = bases(&constraints.excluded_subtrees);
    let shown = name.shown();
    if permitted.contains(&Within::Unknown) || excluded.contains(&Within::Unknown) {
        let said = format!("constrains names in a way that lbctl does not verify ({shown})");
        return Some(Err(said));
    }
    if !permitted.is_empty() && !permitted.contains(&Within::Yes) {
        return Some(Ok(format!(
            "does not permit the name {shown} (nameConstraints)"
        )));
    }
    let said = format!("excludes the name {shown} (nameConstraints)");
    excluded.contains(&Within::Yes).then_some(Ok(said))
}

impl Bound {
    fn shown(&self) -> String {
        match self {
            Self::Directory(_, shown) => shown.clone(),
            Self::Dns(text) | Self::Mail(text) | Self::Uri(text) => printable(text),
            Self::Ip(_) => "of its IP address".to_owned(),
            Self::Other => "of another kind".to_owned(),
        }
    }
}

/// Whether a name lies within the base of a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Yes,
    No,
    /// The base is of another kind of name.
    OtherKind,
    Unknown,
}

impl From<bool> for Within {
    fn from(within: bool) -> Self {
        if within { Self::Yes } else { Self::No }
    }
}

fn within(name: &Bound, base: &GeneralName<'_>) -> Within {
    match (name, base) {
        (Bound::Directory(name, _), GeneralName::DirectoryName(base)) => {
            CanonicalName::new(base).holds(name).into()
        }
        (Bound::Dns(name), GeneralName::DNSName(base)) => within_domain(name, base).into(),
        (Bound::Ip(ip), GeneralName::IPAddress(base)) => within_network(ip, base).into(),
        (Bound::Mail(mail), GeneralName::RFC822Name(base)) => {
            within_mail(mail, base).map_or(Within::Unknown, Into::into)
        }
        (Bound::Uri(_), GeneralName::URI(_))
        | (Bound::Other, GeneralName::OtherName(..) | GeneralName::RegisteredID(_))
        | (_, GeneralName::Invalid(..)) => Within::Unknown,
        _ => Within::OtherKind,
    }
}

fn within_domain(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    match name.strip_suffix(&base) {
        _ if base.is_empty() => true,
        Some("") => true,
        Some(before) => base.starts_with('.') || before.ends_with('.'),
        None => false,
    }
}

/// No address lies in a network of the other family.
fn within_network(ip: &[u8], base: &[u8]) -> bool {
    if base.len() != 2 * ip.len() {
        return false;
    }
    let (network, mask) = base.split_at(ip.len());
    let mut octets = ip.iter().zip(network).zip(mask);
    octets.all(|((ip, network), mask)| ip & mask == network & mask)
}

/// A host, a domain (`.example.org`) or one mailbox; the last is compared by case rules that are
/// not repeated here.
fn within_mail(mail: &str, base: &str) -> Option<bool> {
    let (_, host) = mail.rsplit_once('@')?;
    if base.contains('@') {
        return None;
    }
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    Some(if base.starts_with('.') {
        host.ends_with(&base)
    } else {
        host == base
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_of_constraints_hold_what_is_below_them() {
        for (name, base, within) in [
            ("a.example.com", ".example.com", true),
            ("example.com", ".example.com", false),
            ("example.com", "example.com", true),
            ("A.Example.com", "example.COM", true),
            ("notexample.com", "example.com", false),
            ("anything", "", true),
        ] {
            assert_eq!(within_domain(name, base), within, "{name} {base}");
        }
    }

    #[test]
    fn a_common_name_is_a_dns_name_only_with_a_dot() {
        for (name, dns) in [
            ("patroni-client", false),
            ("db.example.com", true),
            ("a b.example", false),
            (".example", false),
            ("db.", false),
        ] {
            assert_eq!(is_dns(name), dns, "{name}");
        }
    }

    #[test]
    fn networks_of_constraints() {
        let base = [10, 0, 0, 0, 255, 0, 0, 0];
        assert!(within_network(&[10, 1, 2, 3], &base));
        assert!(!within_network(&[11, 1, 2, 3], &base));
        assert!(!within_network(&[0; 16], &base));
    }
}
