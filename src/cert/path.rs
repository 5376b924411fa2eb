//! Whether a certificate verifies as OpenSSL verifies it for HAProxy and for Patroni: a path to a
//! self-signed certificate among the trusted ones, and no shorter one (`X509_verify_cert` without
//! `X509_V_FLAG_PARTIAL_CHAIN`; `openssl-verification-options(1)`). The libraries that lbctl speaks
//! TLS with follow other rules.
//!
//! Three answers, for two would be a guess: what lbctl does not know of OpenSSL's rules, or what
//! depends on its settings, is [`PathVerdict::Unsure`]. Held against `openssl verify` and a real
//! HAProxy by tests/it/cert/zoo.rs.

mod constraints;
mod extensions;

use constraints::constraints;
use extensions::unknown;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::x509::X509Version;

use super::ca::{authority_key_id, parse, printable, stamp, subject_key_id};
use super::name::CanonicalName;
use super::signed::{Signed, signed, weak_key};

/// The longest path, and the most paths, that are tried: others' certificates are among them.
const LONGEST: usize = 10;
const MOST_PATHS: usize = 64;

/// What the certificate is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Server,
}

/// What OpenSSL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathVerdict {
    Good,
    /// It refuses the certificate, for this reason.
    Bad(String),
    /// Unknown, for this reason.
    Unsure(String),
}

/// How strictly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub purpose: Purpose,
    /// `None`: whether certificates are in force is not asked.
    pub now: Option<OffsetDateTime>,
    /// Every trusted certificate ends a path, not a root alone: where the root is not given.
    pub partial: bool,
    /// Whether the first signature, that of the leaf, counts.
    pub leaf_signature: bool,
}

/// Verifies `leaf` with the certificates that were sent beside it and those that are trusted, DER.
#[must_use]
pub fn verify(
    leaf: &[u8],
    sent: &[impl AsRef<[u8]>],
    trusted: &[impl AsRef<[u8]>],
    purpose: Purpose,
    now: OffsetDateTime,
) -> PathVerdict {
    let rules = Rules {
        purpose,
        now: Some(now),
        partial: false,
        leaf_signature: true,
    };
    verify_by(leaf, sent, trusted, rules)
}

pub(super) fn verify_by(
    leaf: &[u8],
    sent: &[impl AsRef<[u8]>],
    trusted: &[impl AsRef<[u8]>],
    rules: Rules,
) -> PathVerdict {
    let Some(first) = Member::new(leaf, false) else {
        return PathVerdict::Unsure("it cannot be read here".into());
    };
    let mut unread = false;
    let mut members = vec![first];
    for (others, are_trusted) in [(texts(trusted), true), (texts(sent), false)] {
        for der in others {
            match members.iter_mut().find(|member| member.der == der) {
                Some(known) => known.trusted |= are_trusted,
                None => match Member::new(der, are_trusted) {
                    Some(member) => members.push(member),
                    None => unread = true,
                },
            }
        }
    }
    let pool = Pool { members, rules };
    match pool.verdict() {
        PathVerdict::Bad(_) if unread => {
            PathVerdict::Unsure("a certificate beside it cannot be read here".into())
        }
        verdict => verdict,
    }
}

fn texts(all: &[impl AsRef<[u8]>]) -> Vec<&[u8]> {
    all.iter().map(AsRef::as_ref).collect()
}

/// Whether one of the trusted certificates above it, or it itself, is a root.
pub(super) fn leads_to_root(der: &[u8], trusted: &[Vec<u8>]) -> bool {
    let all = upwards(der, trusted);
    all.iter().filter_map(|der| parse(der)).any(|c| is_root(&c))
}

/// Whether it is self-signed, as OpenSSL sees it.
pub(super) fn is_root(certificate: &X509Certificate<'_>) -> bool {
    Member::of(certificate.clone(), &[]).is_self_signed()
}

pub(super) fn has_issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    let (above, below) = (
        Member::of(issuer.clone(), &[]),
        Member::of(certificate.clone(), &[]),
    );
    below.names_as_issuer(&above) && signed(issuer, certificate) == Signed::Yes
}

/// It, and all those among `others` that issued it, directly or not.
pub(super) fn upwards(der: &[u8], others: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut found = vec![der.to_vec()];
    let mut at = 0;
    while let Some(below) = found.get(at).cloned() {
        let below = parse(&below);
        let above = others.iter().filter(|other| {
            let issued = below.as_ref().zip(parse(other));
            issued.is_some_and(|(below, above)| has_issued(&above, below))
        });
        let new: Vec<_> = above
            .filter(|other| !found.contains(other))
            .cloned()
            .collect();
        found.extend(new);
        at += 1;
    }
    found
}

/// From the leaf's issuer upwards without the root. Where a CA has a root of its own and is signed
/// by another one, too, the second is taken: a verifier that has the first needs neither.
pub(super) fn chain(leaf: &[u8], others: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut chain: Vec<Vec<u8>> = Vec::new();
    let mut below = leaf.to_vec();
    while chain.len() < LONGEST {
        let Some(certificate) = parse(&below) else {
            break;
        };
        let issuers = others.iter().filter(|other| {
            let fits = |c: X509Certificate<'_>| !is_root(&c) && has_issued(&c, &certificate);
            **other != below && !chain.contains(other) && parse(other).is_some_and(fits)
        });
        let end = |other: &&Vec<u8>| parse(other).map(|c| c.validity().not_after.timestamp());
        let Some(next) = issuers.max_by_key(end).cloned() else {
            break;
        };
        chain.push(next.clone());
        below = next;
    }
    chain
}

/// A certificate that may be part of a path.
struct Member<'a> {
    der: &'a [u8],
    certificate: X509Certificate<'a>,
    subject: CanonicalName,
    issuer: CanonicalName,
    trusted: bool,
}

impl<'a> Member<'a> {
    fn new(der: &'a [u8], trusted: bool) -> Option<Self> {
        let member = Self::of(parse(der)?, der);
        Some(Self { trusted, ..member })
    }

    fn of(certificate: X509Certificate<'a>, der: &'a [u8]) -> Self {
        Self {
            der,
            subject: CanonicalName::new(certificate.subject()),
            issuer: CanonicalName::new(certificate.issuer()),
            certificate,
            trusted: false,
        }
    }

    fn name(&self) -> String {
        printable(&self.certificate.subject().to_string())
    }

    /// Whether the other one may have issued it, by names, identifiers and key usage
    /// (`X509_check_issued`).
    fn names_as_issuer(&self, other: &Self) -> bool {
        let id = match (
            authority_key_id(&self.certificate),
            subject_key_id(&other.certificate),
        ) {
            (Some(theirs), Some(ours)) => theirs == ours.as_slice(),
            _ => true,
        };
        self.issuer == other.subject && id && self.names_serial_of(other) && other.may_sign()
    }

    fn names_serial_of(&self, other: &Self) -> bool {
        let id = self.extensions().find_map(|extension| match extension {
            ParsedExtension::AuthorityKeyIdentifier(id) => Some(id),
            _ => None,
        });
        let Some(id) = id else { return true };
        let serial = id
            .authority_cert_serial
            .is_none_or(|serial| serial == other.certificate.tbs_certificate.raw_serial());
        let names = id.authority_cert_issuer.as_deref().unwrap_or_default();
        let name = names.iter().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(CanonicalName::new(name)),
            _ => None,
        });
        serial && name.is_none_or(|name| name == other.issuer)
    }

    fn may_sign(&self) -> bool {
        let usage = self.certificate.key_usage().ok().flatten();
        usage.is_none_or(|usage| usage.value.key_cert_sign())
    }

    fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// OpenSSL's `EXFLAG_SS`, which asks for no signature.
    fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.names_as_issuer(self)
    }

    fn extensions(&self) -> impl Iterator<Item = &ParsedExtension<'a>> {
        let all = self.certificate.tbs_certificate.extensions().iter();
        all.map(x509_parser::extensions::X509Extension::parsed_extension)
    }

    fn out_of_time(&self, now: OffsetDateTime) -> Option<String> {
        let validity = self.certificate.validity();
        let (from, to) = (
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        );
        if now < from {
            Some(format!("is not valid before {}", stamp(from)))
        } else if now > to {
            Some(format!("expired on {}", stamp(to)))
        } else {
            None
        }
    }

    fn in_time(&self, now: Option<OffsetDateTime>) -> bool {
        now.is_none_or(|now| self.out_of_time(now).is_none())
    }
}

struct Pool<'a> {
    /// The first is the leaf; then the trusted ones.
    members: Vec<Member<'a>>,
    rules: Rules,
}

/// Indices into the pool, the leaf first.
type Path = Vec<usize>;

impl Pool<'_> {
    fn verdict(&self) -> PathVerdict {
        let mut paths = Vec::new();
        self.extend(&mut vec![0], &mut paths);
        let preferred = self.preferred();
        let of = |path: &Path| self.judge(path);
        let Some(preferred) = preferred else {
            return match paths.iter().map(of).find(|v| *v == PathVerdict::Good) {
                Some(_) => PathVerdict::Unsure("it has several paths to the CA".into()),
                None => self.without_path(),
            };
        };
        let others = || paths.iter().filter(|path| **path != preferred).map(of);
        match of(&preferred) {
            PathVerdict::Bad(_) if others().any(|v| v == PathVerdict::Good) => {
                PathVerdict::Unsure("it has several paths to the CA".into())
            }
            verdict => verdict,
        }
    }

    /// Whether a path may end with it.
    fn ends(&self, at: usize) -> bool {
        let member = &self.members[at];
        member.trusted && (self.rules.partial || member.is_self_signed())
    }

    /// All that may have issued it, the trusted ones first.
    fn issuers(&self, path: &[usize]) -> Vec<usize> {
        let Some(last) = path.last().map(|at| &self.members[*at]) else {
            return Vec::new();
        };
        let fits = |at: &usize| !path.contains(at) && last.names_as_issuer(&self.members[*at]);
        let mut found: Vec<usize> = (1..self.members.len()).filter(fits).collect();
        found.sort_by_key(|at| !self.members[*at].trusted);
        found
    }

    fn extend(&self, path: &mut Path, found: &mut Vec<Path>) {
        if found.len() >= MOST_PATHS {
            return;
        }
        if path.last().is_some_and(|at| self.ends(*at)) {
            found.push(path.clone());
        }
        if path.len() >= LONGEST {
            return;
        }
        for issuer in self.issuers(path) {
            path.push(issuer);
            self.extend(path, found);
            path.pop();
        }
    }

    /// The path that OpenSSL takes first: at each step a trusted issuer before one that was sent,
    /// and of several the first that is in force.
    fn preferred(&self) -> Option<Path> {
        let mut path = vec![0];
        while path.len() <= LONGEST {
            let last = *path.last()?;
            if self.ends(last) {
                return Some(path);
            }
            let issuers = self.issuers(&path);
            let first = *issuers.first()?;
            let trusted = self.members[first].trusted;
            let of_a_kind = || {
                let all = issuers.iter().copied();
                all.filter(|at| self.members[*at].trusted == trusted)
            };
            let latest = || {
                of_a_kind().max_by_key(|at| {
                    let validity = self.members[*at].certificate.validity();
                    validity.not_after.timestamp()
                })
            };
            let in_time = of_a_kind().find(|at| self.members[*at].in_time(self.rules.now));
            path.push(in_time.or_else(latest)?);
        }
        None
    }

    /// Why no path ends with a root that is trusted.
    fn without_path(&self) -> PathVerdict {
        let mut path = vec![0];
        while let Some(issuer) = self.issuers(&path).first().copied() {
            path.push(issuer);
        }
        let last = &self.members[path.last().copied().unwrap_or(0)];
        if let Some(why) = self.unreadable(&path) {
            return PathVerdict::Unsure(why);
        }
        PathVerdict::Bad(if last.is_self_signed() && path.len() == 1 {
            "it is signed by itself, and not one of the CA's".to_owned()
        } else if last.is_self_signed() {
            format!("its root, {}, is not given", last.name())
        } else {
            let issuer = printable(&last.certificate.issuer().to_string());
            format!("its issuer, {issuer}, is not given")
        })
    }

    fn unreadable(&self, path: &[usize]) -> Option<String> {
        let members = path.iter().map(|at| &self.members[*at]);
        members.flat_map(Member::extensions).find_map(|extension| {
            matches!(extension, ParsedExtension::ParseError { .. })
                .then(|| "an extension in it cannot be read here".to_owned())
        })
    }

    fn judge(&self, path: &[usize]) -> PathVerdict {
        let path: Vec<&Member<'_>> = path.iter().map(|at| &self.members[*at]).collect();
        let faults = [
            self.times(&path),
            signatures(&path, self.rules),
            usages(&path, self.rules.purpose),
            lengths(&path),
            constraints(&path),
            unknown(&path),
        ];
        let bad = faults.iter().flatten().find_map(|fault| match fault {
            Fault::Bad(said) => Some(PathVerdict::Bad(said.clone())),
            Fault::Unsure(_) => None,
        });
        let unsure = faults.iter().flatten().find_map(|fault| match fault {
            Fault::Unsure(said) => Some(PathVerdict::Unsure(said.clone())),
            Fault::Bad(_) => None,
        });
        bad.or(unsure).unwrap_or(PathVerdict::Good)
    }

    fn times(&self, path: &[&Member<'_>]) -> Option<Fault> {
        let now = self.rules.now?;
        path.iter().enumerate().find_map(|(at, member)| {
            let said = member.out_of_time(now)?;
            Some(bad(at, member, &said))
        })
    }
}

/// What is wrong with a path.
enum Fault {
    Bad(String),
    Unsure(String),
}

fn bad(at: usize, member: &Member<'_>, said: &str) -> Fault {
    Fault::Bad(about(at, member, said))
}

fn unsure(at: usize, member: &Member<'_>, said: &str) -> Fault {
    Fault::Unsure(about(at, member, said))
}

/// Of the leaf "it …", of others with their name.
fn about(at: usize, member: &Member<'_>, said: &str) -> String {
    if at == 0 {
        format!("it {said}")
    } else {
        format!(
            "the certificate of {}, which issued it, {said}",
            member.name()
        )
    }
}

fn signatures(path: &[&Member<'_>], rules: Rules) -> Option<Fault> {
    let first = usize::from(!rules.leaf_signature);
    let pairs = path.windows(2).enumerate().skip(first);
    let wrong =
        pairs.filter_map(
            |(at, pair)| match signed(&pair[1].certificate, &pair[0].certificate) {
                Signed::Yes => None,
                Signed::No => Some(bad(at, pair[0], "has a signature that is not its issuer's")),
                Signed::Unknown(why) => Some(Fault::Unsure(why.to_owned())),
            },
        );
    let weak = path.iter().filter_map(|member| {
        let why = weak_key(member.certificate.public_key())?;
        Some(Fault::Unsure(why.to_owned()))
    });
    worst(wrong.chain(weak))
}

fn worst(faults: impl Iterator<Item = Fault>) -> Option<Fault> {
    let mut unsure = None;
    for fault in faults {
        match fault {
            Fault::Bad(_) => return Some(fault),
            Fault::Unsure(_) => unsure = unsure.or(Some(fault)),
        }
    }
    unsure
}

/// Netscape's and Microsoft's "server gated crypto", which OpenSSL takes for `serverAuth`.
const GATED: [&str; 2] = ["2.16.840.1.113730.4.1", "1.3.6.1.4.1.311.10.3.3"];

/// `check_purpose_ssl_client`, `check_purpose_ssl_server` and `X509_check_ca`. An extended key
/// usage binds CAs, too, and "any" is none of the two.
fn usages(path: &[&Member<'_>], purpose: Purpose) -> Option<Fault> {
    let faults = path.iter().enumerate().filter_map(|(at, member)| {
        let certificate = &member.certificate;
        let netscape = member
            .extensions()
            .any(|e| matches!(e, ParsedExtension::NSCertType(_)));
        if netscape {
            return Some(unsure(at, member, "has a Netscape certificate type"));
        }
        let extended = certificate.extended_key_usage().ok().flatten();
        if let Some(usage) = extended.map(|usage| usage.value) {
            let (fits, word) = match purpose {
                Purpose::Client => (usage.client_auth, "clientAuth"),
                Purpose::Server => (usage.server_auth, "serverAuth"),
            };
            let gated = |oid: &x509_parser::der_parser::Oid<'_>| {
                GATED.contains(&oid.to_id_string().as_str())
            };
            if !fits && purpose == Purpose::Server && usage.other.iter().any(gated) {
                return Some(unsure(at, member, "has an extended key usage of the past"));
            }
            if !fits {
                let said = format!("has an extendedKeyUsage without {word}");
                return Some(bad(at, member, &said));
            }
        }
        if at > 0 {
            return is_ca(member).err().map(|said| bad(at, member, said));
        }
        let usage = certificate.key_usage().ok().flatten()?.value;
        let fits = usage.digital_signature()
            || usage.key_agreement()
            || (purpose == Purpose::Server && usage.key_encipherment());
        (!fits).then(|| bad(at, member, "has a keyUsage that does not allow TLS"))
    });
    worst(faults)
}

/// Whether it may issue certificates: version 1 roots, and certificates whose only sign is
/// `keyCertSign`, are accepted.
fn is_ca(member: &Member<'_>) -> Result<(), &'static str> {
    if !member.may_sign() {
        return Err("may not sign certificates (keyUsage)");
    }
    let certificate = &member.certificate;
    match certificate.basic_constraints().ok().flatten() {
        Some(constraints) if constraints.value.ca => Ok(()),
        Some(_) => Err("is not that of a CA (basicConstraints says CA:FALSE)"),
        None if certificate.version() == X509Version::V1 && member.is_self_signed() => Ok(()),
        None if certificate.key_usage().ok().flatten().is_some() => Ok(()),
        None => Err("is not that of a CA (it has no basicConstraints)"),
    }
}

fn lengths(path: &[&Member<'_>]) -> Option<Fault> {
    let mut below = 0;
    for (at, member) in path.iter().enumerate() {
        let constraints = member.certificate.basic_constraints().ok().flatten();
        let most = constraints.and_then(|c| c.value.path_len_constraint);
        if at > 1 && most.is_some_and(|most| below > most) {
            return Some(bad(
                at,
                member,
                "allows fewer CAs below it (pathlen of basicConstraints)",
            ));
        }
        if at > 0 && !member.is_self_issued() {
            below += 1;
        }
    }
    None
}
