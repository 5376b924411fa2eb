//! The CA certificates of the configuration: those that the nodes' certificates are verified with,
//! and among them the one that issues, with what lies between it and a root. No private key is
//! here.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::ca::{Ca, CaError, Part, check_may_issue, parse, printable, stamp};
use super::issue;
use super::path::{self, PathVerdict, Purpose, Rules};
use super::pem::{self, Fault, Whose};

/// One or more CA certificates. At least one of them is a root: OpenSSL, as HAProxy uses it,
/// accepts no path that ends elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertificates {
    ders: Arc<[Vec<u8>]>,
    pem: Arc<str>,
}

/// Why a text cannot be used. The message fits behind the key's name and holds no piece of the
/// input but the names in certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustError {
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TrustError {}

impl From<Fault> for TrustError {
    fn from(fault: Fault) -> Self {
        Self {
            message: fault.message,
            hint: fault.hint,
        }
    }
}

impl CaCertificates {
    /// For who has them not at hand, and verifies nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            ders: Arc::new([]),
            pem: "".into(),
        }
    }

    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.ders.is_empty()
    }

    /// No clock is read: see [`CaCertificates::check_time`].
    pub fn load(text: &str) -> Result<Self, TrustError> {
        let certificates = pem::certificates(text, Whose::Ca)?;
        if certificates.iter().any(|der| parse(der).is_none()) {
            return Err(Fault::new(
                "a PEM block that holds no X.509 certificate",
                "export the CA's certificate again",
            )
            .into());
        }
        let blocks = certificates
            .iter()
            .map(|der| pem::encode("CERTIFICATE", der));
        let all = Self {
            pem: blocks
                .map(|block| block.to_string())
                .collect::<String>()
                .into(),
            ders: certificates.iter().map(|der| der.to_vec()).collect(),
        };
        let rootless = all.parsed().next();
        match rootless {
            Some(first) if all.roots().is_empty() => {
                if first.subject() == first.issuer() {
                    check_may_issue(&first)?;
                }
                let name = |name: &x509_parser::x509::X509Name<'_>| printable(&name.to_string());
                let (subject, issuer) = (name(first.subject()), name(first.issuer()));
                Err(TrustError {
                    message: format!(
                        "the certificate of {subject}, which {issuer} has signed, and no root: HAProxy verifies nothing \
                         with it alone"
                    ),
                    hint: Some(format!("add the certificate of {issuer} to it")),
                })
            }
            _ => Ok(all),
        }
    }

    /// Whether one of the roots is valid at that time.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), TrustError> {
        let roots = self.roots();
        let times = |root: &X509Certificate<'_>| {
            let validity = root.validity();
            (
                validity.not_before.to_datetime(),
                validity.not_after.to_datetime(),
            )
        };
        let in_force = |(from, to)| from <= now && now <= to;
        let Some(root) = roots.first() else {
            return Ok(());
        };
        if roots.iter().map(times).any(in_force) {
            return Ok(());
        }
        let (from, to) = times(root);
        let (message, hint) = if to < now {
            (
                format!("a CA certificate that expired on {}", stamp(to)),
                "renew the CA's certificate, on this side and on the Patroni nodes (and look at this machine's clock)",
            )
        } else {
            (
                format!("a CA certificate that is not valid before {}", stamp(from)),
                "look at this machine's clock, or wait",
            )
        };
        Err(Fault::new(message, hint).into())
    }

    /// Every certificate of the input, in its order, written again: no text between the blocks, no
    /// empty lines and no key that may have stood beside them.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Each of them, DER.
    #[must_use]
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.ders
    }

    /// That none of them may issue a client certificate that OpenSSL accepts. Which one does is the
    /// key's matter.
    pub fn check_may_issue(&self) -> Result<(), TrustError> {
        let mut first = None;
        for at in 0..self.ders.len() {
            match self.issuer_fault(at, None) {
                None => return Ok(()),
                Some(fault) => first = first.or(Some(fault)),
            }
        }
        first.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// The issuer that is presumed where its key is not at hand: the first that may issue.
    fn presumed(&self) -> Option<usize> {
        (0..self.ders.len()).find(|at| self.issuer_fault(*at, None).is_none())
    }

    /// The end of the CA that issues, as far as it is known without its key.
    pub(super) fn end(&self) -> OffsetDateTime {
        let issuers = (0..self.ders.len()).filter(|at| self.issuer_fault(*at, None).is_none());
        let ends = issuers.filter_map(|at| self.at(at)).map(|c| not_after(&c));
        ends.max().unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The CA with a key that is made for this: what it signs is like a real certificate, and is
    /// shown or counted, never used.
    pub(super) fn stand_in(&self, at: Option<usize>) -> Result<Ca, CaError> {
        let at = at.or_else(|| self.presumed()).unwrap_or(0);
        let signer = issue::generate_p256().map_err(|e| CaError {
            part: Part::Key,
            message: e.to_string(),
            hint: None,
        })?;
        Ca::of(signer, self, at)
    }

    /// Why client certificates of that CA do not verify, by its own extensions and by those of the
    /// CAs above it that are given.
    pub(super) fn issuer_fault(&self, at: usize, now: Option<OffsetDateTime>) -> Option<Fault> {
        let certificate = self.at(at)?;
        if let Err(fault) = check_may_issue(&certificate) {
            return Some(fault);
        }
        let rules = Rules {
            purpose: Purpose::Client,
            now,
            partial: !self.leads_to_root(at),
            leaf_signature: false,
        };
        let ca = self.stand_in(Some(at)).ok()?;
        let leaf = issue::sample(&ca).ok()?;
        match path::verify_by(&leaf, &[] as &[Vec<u8>], &self.ders, rules) {
            PathVerdict::Bad(said) => Some(Fault::new(
                format!("a CA whose client certificates every node would refuse: {said}"),
                "use a CA that may issue a client certificate with the name CN=patroni-client, or give a certificate \
                 that it issued otherwise (`certificate` and `key`)",
            )),
            PathVerdict::Good | PathVerdict::Unsure(_) => None,
        }
    }

    /// Whether a root that is given stands above it, or it is one.
    #[must_use]
    pub fn leads_to_root(&self, at: usize) -> bool {
        let der = self.ders.get(at);
        der.is_some_and(|der| path::leads_to_root(der, &self.ders))
    }

    /// The certificate that issued it, of several the one that lasts longest.
    pub(super) fn issuer_of(&self, certificate: &X509Certificate<'_>) -> Option<usize> {
        let fits = |at: &usize| {
            let issuer = self.at(*at);
            issuer.is_some_and(|issuer| path::has_issued(&issuer, certificate))
        };
        let all = (0..self.ders.len()).filter(fits);
        all.max_by_key(|at| self.at(*at).map(|c| not_after(&c)))
    }

    /// Whether, beside the issuer and what stands above it, there is another CA that may issue: one
    /// of the two during a rotation.
    pub(super) fn has_others_beside(&self, issuer: usize) -> bool {
        let Some(own) = self.ders.get(issuer) else {
            return false;
        };
        let above = path::upwards(own, &self.ders);
        let key = |at: usize| self.at(at).map(|c| c.public_key().raw.to_vec());
        (0..self.ders.len()).any(|at| {
            self.ders.get(at).is_some_and(|der| !above.contains(der))
                && key(at) != key(issuer)
                && self.at(at).is_some_and(|c| check_may_issue(&c).is_ok())
        })
    }

    /// What is sent with a certificate: the given ones from its issuer upwards, without the root,
    /// which a verifier has or does not believe (RFC 8446, section 4.4.2).
    pub(super) fn chain_of(&self, leaf: &[u8], beside: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let all: Vec<Vec<u8>> = beside.iter().chain(self.ders.iter()).cloned().collect();
        path::chain(leaf, &all)
    }

    pub(super) fn at(&self, at: usize) -> Option<X509Certificate<'_>> {
        parse(self.ders.get(at)?)
    }

    pub(super) fn parsed(&self) -> impl Iterator<Item = X509Certificate<'_>> {
        self.ders.iter().filter_map(|der| parse(der))
    }

    fn roots(&self) -> Vec<X509Certificate<'_>> {
        self.parsed().filter(path::is_root).collect()
    }
}

pub(super) fn not_after(certificate: &X509Certificate<'_>) -> OffsetDateTime {
    certificate.validity().not_after.to_datetime()
}

impl fmt::Debug for CaCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subjects: Vec<String> = self
            .parsed()
            .map(|c| printable(&c.subject().to_string()))
            .collect();
        f.debug_tuple("CaCertificates").field(&subjects).finish()
    }
}
