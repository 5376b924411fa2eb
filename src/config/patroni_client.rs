//! `[haproxy.patroni_client]`: the CA, and where the client certificate comes from. The CA's
//! private key is not read here, unless somebody asks for the configuration to be examined: it is
//! opened by what issues ([`CaKey`]).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;

use super::diagnostics::{Read, Refused, Spanned};
use super::inputs::Inputs;
use super::model::{
    CertificateSource, GivenCertificate, Issuing, PatroniClient, RequestedCertificate,
};
use super::reader::{Referred, Section};
use super::report::ProblemId;
use super::types::{HourSpan, InvalidValue};
use crate::cert::{Ca, CaCertificates, CaError, CaSource, ClientPair, KeyError, Part, Policy};
use crate::secret::{MASK, Secret};

/// Where no other is given and lbctl does not issue: a month.
const EARLY_RENEWAL: i64 = 720;

pub(super) fn patroni_client(section: &Section<'_>, vm: Option<&str>) -> Read<PatroniClient> {
    let diagnostics = section.diagnostics();
    let certificate = section.refers("certificate");
    let (key, ca_key) = (section.refers("key"), section.refers("ca_key"));
    if let (Some(ca_key), Some(given)) = (&ca_key, certificate.as_ref().or(key.as_ref())) {
        let what =
            "and a certificate from elsewhere are both given, but there is one client certificate";
        let help =
            "keep ca_key where lbctl issues it, or certificate and key where somebody else does";
        let refused = diagnostics.conflict(ca_key, given, what, "the other one", help);
        // What else is wrong belongs to the same report.
        let _ = issued(section);
        return Err(refused);
    }
    match (&certificate, &key) {
        (Some(alone), None) => {
            let help = "add key = { file = \"client.key\" }: the private key that belongs to it";
            Err(diagnostics.refuse(alone, "is given without its `key`", help))
        }
        (None, Some(alone)) => {
            let help = "add certificate = { file = \"client.crt\" }: the certificate, and those of its issuers up to \
                        the root";
            Err(diagnostics.refuse(alone, "is given without its `certificate`", help))
        }
        (Some(_), Some(_)) => given(section),
        (None, None) if ca_key.is_some() => issued(section),
        (None, None) => requested(section, vm),
    }
}

/// The CA's certificates, of which at least one root is valid now.
pub(super) fn ca_certificates(section: &Section<'_>) -> Read<Spanned<CaCertificates>> {
    let diagnostics = section.diagnostics();
    let Some(given) = section.secret("ca_certificate")? else {
        return Ok(section.here().with(CaCertificates::unknown()));
    };
    let loaded = diagnostics.check(&given, |text| {
        CaCertificates::load(text.expose()).map_err(|error| {
            let help = error.hint.unwrap_or_default();
            InvalidValue::new(format!("is {}", error.message), help)
        })
    })?;
    if let Some(now) = section.reader.now {
        diagnostics.check(&loaded, |ca| {
            ca.check_time(now).map_err(|error| {
                let help = error.hint.unwrap_or_default();
                InvalidValue::new(format!("is {}", error.message), help)
                    .with_id(ProblemId::CaNotInForce)
            })
        })?;
    }
    Ok(loaded)
}

// ---- issued by lbctl

fn issued(section: &Section<'_>) -> Read<PatroniClient> {
    let diagnostics = section.diagnostics();
    let validity = required_hours(section, "certificate_validity_period");
    let early_renewal = required_hours(section, "certificate_early_renewal_period");
    let key_algorithm = section.word("key_algorithm");
    let ca = ca_certificates(section);
    let referred = section.referred("ca_key");
    let periods = periods(section, validity, early_renewal);
    let (ca, referred) = (ca?, referred?);
    let may_issue = diagnostics.check(&ca, |ca| {
        ca.check_may_issue().map_err(|error| {
            let help = error.hint.unwrap_or_default();
            InvalidValue::new(format!("is {}", error.message), help)
        })
    });
    may_issue?;
    let key = CaKey {
        inputs: section.reader.inputs.to_shared(),
        place: section.reader.place(&referred),
        name: referred.key.clone(),
        referred: referred.value.clone(),
        certificates: ca.value.clone(),
    };
    let opened = if section.reader.examine {
        examine(section, &referred, &ca)?
    } else {
        None
    };
    let (validity, early_renewal) = periods?;
    let issuing = Issuing {
        ca_key: key,
        validity: validity.value,
        early_renewal: early_renewal.value,
        key_algorithm: key_algorithm?.value,
    };
    warn_of_clamp(section, &issuing, opened.as_ref(), &ca, &validity);
    Ok(PatroniClient {
        ca: ca.value,
        source: CertificateSource::Issued(issuing),
    })
}

type Hours = Spanned<HourSpan>;

fn periods(
    section: &Section<'_>,
    validity: Read<Hours>,
    early_renewal: Read<Hours>,
) -> Read<(Hours, Hours)> {
    let (validity, early_renewal) = (validity?, early_renewal?);
    if early_renewal.value < validity.value {
        return Ok((validity, early_renewal));
    }
    let what = format!(
        "is {} hours, not less than the {} for which the certificate is valid",
        early_renewal.value, validity.value
    );
    let help = "lower it: otherwise every run would issue another certificate";
    let label = "how long it is valid";
    let diagnostics = section.diagnostics();
    Err(diagnostics.conflict(&early_renewal, &validity, &what, label, help))
}

fn warn_of_clamp(
    section: &Section<'_>,
    issuing: &Issuing,
    opened: Option<&Ca>,
    ca: &Spanned<CaCertificates>,
    validity: &Spanned<HourSpan>,
) {
    let policy = issuing.policy(&ca.value, false);
    let Some(now) = section.reader.now else {
        return;
    };
    let clamp = match opened {
        Some(ca) => policy.clamp_to(ca.not_after(), now),
        None => policy.clamp(now),
    };
    if let Some(clamp) = clamp {
        section.diagnostics().warn(
            validity,
            &format!("is longer than the CA lasts: {clamp}"),
            "shorten it, or renew the CA in time",
        );
    }
}

/// Reads the key all the same, to say what is wrong with it. One that is not there is kept
/// elsewhere.
fn examine(
    section: &Section<'_>,
    place: &Spanned<Referred>,
    certificates: &Spanned<CaCertificates>,
) -> Read<Option<Ca>> {
    let diagnostics = section.diagnostics();
    let text = match place.value.read(section.reader.inputs) {
        Ok(text) => text,
        Err(invalid) if place.value.is_elsewhere(section.reader.inputs) => {
            let what = format!(
                "{}: lbctl needs it when it issues a certificate, and not before",
                invalid.what
            );
            diagnostics.warn(
                place,
                &what,
                "have it there for the `lbctl up` or `lbctl renew` that issues",
            );
            return Ok(None);
        }
        Err(invalid) => return Err(diagnostics.invalid(place, invalid)),
    };
    let loaded = Ca::new(&text, &certificates.value);
    let loaded = loaded
        .map_err(|error| (ProblemId::InvalidValue, error))
        .and_then(|ca| match section.reader.now {
            Some(now) => ca
                .check_time(now)
                .map(|()| ca)
                .map_err(|error| (ProblemId::CaNotInForce, error)),
            None => Ok(ca),
        });
    let ca = loaded.map_err(|(id, error)| {
        let help = error.hint.clone().unwrap_or_default();
        let invalid = InvalidValue::new(format!("is {}", error.message), &*help).with_id(id);
        match error.part {
            Part::Key => diagnostics.invalid(place, invalid),
            Part::Certificate => diagnostics.invalid(certificates, invalid),
            Part::Pair => {
                let what = format!("and `ca_certificate` are not a pair: {}", error.message);
                diagnostics.conflict(place, certificates, &what, "the certificate", &help)
            }
        }
    })?;
    if let Some(why) = ca.strict_fault() {
        diagnostics.warn(
            certificates,
            &format!(
                "is a CA that nodes with Python 3.13 or newer refuse: {why} ({})",
                ca.subject()
            ),
            "renew it with the same key as a CA of version 3, with critical basicConstraints, keyUsage keyCertSign and a \
             subject key identifier",
        );
    }
    if !ca.leads_to_root() {
        diagnostics.warn(
            certificates,
            &format!(
                "holds no root above {}, which issues: HAProxy accepts no node's certificate of that CA",
                ca.subject()
            ),
            "add the certificates above it up to the root, unless all nodes have theirs from another CA in it",
        );
    }
    Ok(Some(ca))
}

fn required_hours(section: &Section<'_>, name: &str) -> Read<Spanned<HourSpan>> {
    let help = "give a number of hours, such as 8760 for a year";
    match section.optional(name, |s, k| s.integer(k, help))? {
        Some(hours) => Ok(hours),
        None => Err(section.missing(name, &[])),
    }
}

/// Where the CA's private key is. It is read by what issues.
#[derive(Clone)]
pub struct CaKey {
    referred: Referred,
    inputs: Arc<dyn Inputs + Send + Sync>,
    certificates: CaCertificates,
    /// The key of the configuration.
    name: String,
    /// File and line, for messages.
    place: String,
}

impl CaKey {
    /// Where the configuration names it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether the key is where the configuration says. It is not read.
    pub fn ensure_there(&self) -> Result<(), KeyError> {
        let there = self.referred.ensure_there(&*self.inputs);
        there.map_err(|invalid| self.fault(&invalid.what, invalid.help))
    }

    fn fault(&self, what: &str, help: impl Into<String>) -> KeyError {
        KeyError {
            message: format!("`{}` ({}) {what}", self.name, self.place),
            hint: help.into(),
        }
    }
}

impl CaSource for CaKey {
    fn open(&self) -> Result<Ca, KeyError> {
        let text = self.referred.read(&*self.inputs);
        let text = text.map_err(|invalid| self.fault(&invalid.what, invalid.help))?;
        Ca::new(&text, &self.certificates).map_err(|error| {
            let CaError {
                part,
                message,
                hint,
            } = error;
            let what = match part {
                Part::Key => format!("is {message}"),
                Part::Certificate => format!("and `ca_certificate`, which is {message}"),
                Part::Pair => format!("and `ca_certificate` are not a pair: {message}"),
            };
            self.fault(&what, hint.unwrap_or_default())
        })
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Issuing {
    #[must_use]
    pub fn policy<'a>(&'a self, ca: &'a CaCertificates, draft: bool) -> Policy<'a> {
        Policy {
            ca,
            source: &self.ca_key,
            draft,
            validity_hours: self.validity.get(),
            early_renewal_hours: self.early_renewal.get(),
            key_algorithm: self.key_algorithm,
        }
    }
}

// ---- issued elsewhere

fn given(section: &Section<'_>) -> Read<PatroniClient> {
    let (key, certificate) = (section.secret("key"), section.secret("certificate"));
    let early_renewal = early_renewal(section);
    unused(
        section,
        &["certificate_validity_period", "key_algorithm"],
        "the certificate is issued elsewhere",
    );
    let ca = ca_certificates(section)?;
    let pair = match (key?, certificate?) {
        (Some(key), Some(certificate)) if !ca.value.is_unknown() => {
            Some(pair(section, &key, &certificate, &ca.value)?)
        }
        _ => None,
    };
    Ok(PatroniClient {
        ca: ca.value,
        source: CertificateSource::Given(GivenCertificate {
            pair,
            early_renewal: early_renewal?,
        }),
    })
}

fn pair(
    section: &Section<'_>,
    key: &Spanned<Secret>,
    certificate: &Spanned<Secret>,
    ca: &CaCertificates,
) -> Read<ClientPair> {
    let diagnostics = section.diagnostics();
    let loaded = ClientPair::given(&key.value, certificate.value.expose(), ca);
    let loaded = loaded.and_then(|pair| match section.reader.now {
        Some(now) => pair.check(ca, now).map(|()| pair),
        None => Ok(pair),
    });
    loaded.map_err(|error| {
        let help = error.hint.unwrap_or_default();
        let invalid = InvalidValue::new(format!("is {}", error.message), &*help);
        match error.part {
            Part::Key => diagnostics.invalid(key, invalid),
            Part::Certificate => diagnostics.invalid(certificate, invalid),
            Part::Pair => {
                let what = format!("and `certificate` are not a pair: {}", error.message);
                diagnostics.conflict(key, certificate, &what, "the certificate", &help)
            }
        }
    })
}

/// Signed elsewhere, from a request that lbctl made: `lbctl csr` keeps the key, and `lbctl renew
/// --certificate` the pair, in files beside the configuration.
fn requested(section: &Section<'_>, vm: Option<&str>) -> Read<PatroniClient> {
    let diagnostics = section.diagnostics();
    let early_renewal = early_renewal(section);
    let key_algorithm = section.word("key_algorithm");
    unused(
        section,
        &["certificate_validity_period"],
        "there is no ca_key, so the certificate is signed elsewhere",
    );
    let ca = ca_certificates(section)?;
    let store = vm.map(pair_file).unwrap_or_default();
    let stored = section.reader.inputs.file(Path::new(&store));
    let pair = match stored {
        Ok(_) if ca.value.is_unknown() => None,
        Ok(bytes) if vm.is_some() => {
            if section.reader.inputs.is_open_to_all(Path::new(&store)) {
                let what =
                    format!("has its key in {store}, which every user of this machine can read");
                diagnostics.warn(&section.here(), &what, &format!("chmod 600 {store}"));
            }
            let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
            let loaded = ClientPair::given(&text, text.expose(), &ca.value);
            let loaded = loaded.and_then(|pair| match section.reader.now {
                Some(now) => pair.check(&ca.value, now).map(|()| pair),
                None => Ok(pair),
            });
            Some(loaded.map_err(|error| {
                let what = format!("has its certificate in {store}, which is {}", error.message);
                let help = "`lbctl csr` prints a request for another one: have it signed, and give the result to \
                            `lbctl renew --certificate FILE`";
                diagnostics.refuse(&section.here(), &what, help)
            })?)
        }
        Ok(_) => return Err(Refused::BY_SCHEMA),
        Err(_) => None,
    };
    if pair.is_none() && section.reader.examine {
        diagnostics.warn(
            &section.here(),
            "has neither ca_key nor certificate: client certificates are signed elsewhere",
            "`lbctl csr` prints a request for one, `lbctl renew --certificate FILE` takes the signed one; or add ca_key",
        );
    }
    Ok(PatroniClient {
        ca: ca.value,
        source: CertificateSource::Requested(RequestedCertificate {
            pair,
            early_renewal: early_renewal?,
            key_algorithm: key_algorithm?.value,
        }),
    })
}

/// The file beside the configuration with the pair that `lbctl renew --certificate` took.
#[must_use]
pub fn pair_file(vm: &str) -> String {
    format!("{vm}.client.pem")
}

/// The file beside the configuration with the key of the request that `lbctl csr` made.
#[must_use]
pub fn request_key_file(vm: &str) -> String {
    format!("{vm}.client.key")
}

/// How long before its end a certificate that lbctl does not issue is reported.
fn early_renewal(section: &Section<'_>) -> Read<HourSpan> {
    let name = "certificate_early_renewal_period";
    let help = "give a number of hours, such as 720 for a month";
    let given = section.optional(name, |s, k| s.integer(k, help))?;
    match given {
        Some(hours) => Ok(hours.value),
        None => HourSpan::try_from(EARLY_RENEWAL).map_err(|_| Refused::BY_SCHEMA),
    }
}

fn unused(section: &Section<'_>, keys: &[&str], why: &str) {
    for given in keys.iter().filter_map(|key| section.given(key)) {
        let what = format!("is not used: {why}");
        section.diagnostics().warn(&given, &what, "remove it");
    }
}

impl PatroniClient {
    /// How long before its end the certificate in use is due.
    #[must_use]
    pub fn early_renewal(&self) -> HourSpan {
        match &self.source {
            CertificateSource::Issued(issuing) => issuing.early_renewal,
            CertificateSource::Given(given) => given.early_renewal,
            CertificateSource::Requested(requested) => requested.early_renewal,
        }
    }

    /// Whether somebody else issues or signs it.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        !matches!(self.source, CertificateSource::Issued(_))
    }

    /// The pair that was issued elsewhere, if it is at hand.
    #[must_use]
    pub fn given(&self) -> Option<&ClientPair> {
        match &self.source {
            CertificateSource::Issued(_) => None,
            CertificateSource::Given(given) => given.pair.as_ref(),
            CertificateSource::Requested(requested) => requested.pair.as_ref(),
        }
    }

    /// Why another certificate is due, where lbctl is to know of it.
    #[must_use]
    pub fn due(
        &self,
        current: Option<&str>,
        now: OffsetDateTime,
    ) -> Option<crate::cert::IssueReason> {
        match &self.source {
            CertificateSource::Issued(issuing) if !self.ca.is_unknown() => {
                crate::cert::due(current, issuing.policy(&self.ca, true), now)
            }
            // Of a CA that is not there, its end alone is known.
            CertificateSource::Issued(_)
            | CertificateSource::Given(_)
            | CertificateSource::Requested(_) => {
                let early = self.early_renewal().get();
                crate::cert::due_given(current, self.given(), early, now)
            }
        }
    }
}
