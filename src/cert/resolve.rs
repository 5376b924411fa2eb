//! Whether the certificate in use stays, and the new one where it does not.
//!
//! Architecture invariant: resolving what was just resolved keeps it, whatever the policy: each
//! reason to issue is gone in the certificate that it issues.

use std::fmt;

use time::{Duration, OffsetDateTime};

use super::ca::{Ca, CaError, stamp};
use super::pair::{ClientPair, KeyAlgorithm};
use super::trust::{CaCertificates, not_after};
use super::{COMMON_NAME, issue};

/// How far before its issuing a certificate is valid, for guests and nodes whose clock is behind
/// ours.
const BACKDATE: Duration = Duration::hours(1);

/// A certificate that is due is only replaced by one that lasts at least this much longer. Periods
/// are whole hours, so a certificate issued in full and now due always gains as much; one that ends
/// with its CA gains nothing, and would otherwise be replaced at every run.
const LEAST_GAIN: Duration = Duration::hours(1);

/// Where the CA with its private key comes from.
///
/// Architecture invariant: it is opened where something is to be signed, and where of several CAs
/// that are given it must be known which one is to sign; by nothing else. So all else works without
/// the key, which may be kept offline.
pub trait CaSource: fmt::Debug {
    fn open(&self) -> Result<Ca, KeyError>;
}

impl CaSource for Ca {
    fn open(&self) -> Result<Ca, KeyError> {
        Ok(self.clone())
    }
}

/// Why there is no key to sign with. Holds no piece of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// A whole sentence without its stop, with the key's name and place.
    pub message: String,
    pub hint: String,
}

/// How client certificates are made.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub ca: &'a CaCertificates,
    /// The same with the key.
    pub source: &'a dyn CaSource,
    /// Whether what is issued is only shown, and never used: no key is opened for it.
    pub draft: bool,
    /// From issuing to expiry, where the CA lasts as long.
    pub validity_hours: u64,
    /// The certificate is due this long before its expiry.
    pub early_renewal_hours: u64,
    pub key_algorithm: KeyAlgorithm,
}

/// What happens with the certificate in use.
#[derive(Debug, Clone)]
pub enum Resolution {
    Keep(ClientPair),
    Issue {
        pair: ClientPair,
        reason: IssueReason,
        /// A warning to print: the certificate ends earlier than asked for.
        clamp: Option<Clamp>,
    },
}

impl Resolution {
    /// The pair that is to be in use, old or new.
    #[must_use]
    pub fn pair(&self) -> &ClientPair {
        match self {
            Self::Keep(pair) | Self::Issue { pair, .. } => pair,
        }
    }
}

/// Why there is a new certificate. `Display` fits behind "issue a client certificate: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueReason {
    First,
    /// The one in the seed is not a pair, for the reason given.
    Unreadable(String),
    /// Another CA is configured, or its name, key identifier or end changed.
    CaChanged,
    AlgorithmChanged,
    /// The one in use is valid from a time to come only: a clock was wrong.
    NotYetValid,
    /// Within the early renewal period, or expired (not positive).
    Due {
        /// Whole hours until it expires, rounded down.
        hours_left: i64,
    },
    Forced,
    /// Another one, issued elsewhere, is configured.
    Given,
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("there is none yet"),
            Self::Unreadable(why) => write!(f, "the one in the seed cannot be used: {why}"),
            Self::CaChanged => f.write_str("the CA changed"),
            Self::AlgorithmChanged => f.write_str("the key algorithm changed"),
            Self::NotYetValid => f.write_str("the one in use is not valid yet"),
            Self::Due { hours_left } if *hours_left < 0 => write!(f, "the one in use has expired"),
            Self::Due { hours_left } => {
                write!(f, "the one in use expires in {}", Span(*hours_left))
            }
            Self::Forced => f.write_str("asked for"),
            Self::Given => f.write_str("another one is configured"),
        }
    }
}

/// A certificate that ends with its CA, because it would outlive it. `Display` is the warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clamp {
    /// The CA's end, and so the certificate's.
    pub not_after: OffsetDateTime,
    /// The certificate is that much shorter than asked for. Hours, rounded up.
    pub hours_less: i64,
}

impl fmt::Display for Clamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = stamp(self.not_after);
        write!(
            f,
            "the client certificate ends with its CA on {end}, {} before its validity period does",
            Span(self.hours_less)
        )
    }
}

/// Hours as people say them.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ..1 => f.write_str("less than an hour"),
            1 => f.write_str("1 hour"),
            2..48 => write!(f, "{} hours", self.0),
            hours => write!(f, "{} days", hours / 24),
        }
    }
}

/// Why no certificate could be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertError {
    /// The CA is expired or not yet valid.
    Ca(CaError),
    /// There is no key to sign with, and a certificate is due for that reason.
    Key {
        reason: IssueReason,
        error: KeyError,
    },
    /// None was issued elsewhere so far.
    NoneGiven,
    /// A validity period of no hours.
    NoValidity,
    /// The cryptographic library failed; its own words.
    Issuing(String),
}

impl CertError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Ca(error) => error.hint.as_deref(),
            Self::Key { error, .. } => Some(&error.hint),
            Self::NoneGiven => Some(
                "`lbctl csr` prints a request for one: have it signed, and give the result to `lbctl renew --certificate \
                 FILE`; or let lbctl issue it, with ca_key",
            ),
            Self::NoValidity => Some("set certificate_validity_period to at least 1 (hours)"),
            Self::Issuing(_) => None,
        }
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(error) => write!(f, "issuing the client certificate: {error}"),
            Self::Key { reason, error } => write!(
                f,
                "a client certificate must be issued ({reason}), and {}",
                error.message
            ),
            Self::NoneGiven => f.write_str("there is no client certificate yet"),
            Self::NoValidity => {
                f.write_str("issuing the client certificate: a validity period of 0 hours")
            }
            Self::Issuing(why) => write!(f, "issuing the client certificate: {why}"),
        }
    }
}

impl std::error::Error for CertError {}

impl Policy<'_> {
    /// Whether a certificate issued at `now` would end before its validity period does.
    #[must_use]
    pub fn clamp(&self, now: OffsetDateTime) -> Option<Clamp> {
        self.clamp_to(self.ca.end(), now)
    }

    /// The same where the CA's end is known.
    #[must_use]
    pub fn clamp_to(&self, end: OffsetDateTime, now: OffsetDateTime) -> Option<Clamp> {
        let asked = span(self.validity_hours);
        let possible = end - now;
        (asked > possible).then(|| Clamp {
            not_after: end,
            hours_less: (asked - possible + Duration::hours(1) - Duration::nanoseconds(1))
                .whole_hours(),
        })
    }

    /// The end of a certificate issued at `now`: in whole seconds, for so it is written, and never
    /// after the CA's.
    fn not_after(&self, ca: OffsetDateTime, now: OffsetDateTime) -> OffsetDateTime {
        let end = now
            .checked_add(span(self.validity_hours))
            .unwrap_or(ca)
            .min(ca);
        end.replace_nanosecond(0).unwrap_or(end)
    }

    /// The CA that signs.
    fn open(&self, reason: &IssueReason) -> Result<Ca, CertError> {
        if self.draft {
            return self.ca.stand_in(None).map_err(CertError::Ca);
        }
        self.source.open().map_err(|error| CertError::Key {
            reason: reason.clone(),
            error,
        })
    }
}

fn not_before(ca: &Ca, now: OffsetDateTime) -> OffsetDateTime {
    let start = now.checked_sub(BACKDATE).unwrap_or(now);
    start
        .replace_nanosecond(0)
        .unwrap_or(start)
        .max(ca.not_before())
}

/// Keeps the pair in use (`current`: the text read from the seed) or issues a new one. With
/// `force`, always a new one. Errors: a CA that is expired or not yet valid (nothing verifies then,
/// neither old nor new), no key to sign with, no validity.
pub fn resolve(
    current: Option<&str>,
    policy: Policy<'_>,
    now: OffsetDateTime,
    force: bool,
) -> Result<Resolution, CertError> {
    if policy.validity_hours == 0 {
        return Err(CertError::NoValidity);
    }
    let reason = match judge(current, policy, now) {
        Ok((pair, issuer)) if !force => {
            let ca = policy.ca.stand_in(Some(issuer)).map_err(CertError::Ca)?;
            ca.check_time(now).map_err(CertError::Ca)?;
            return Ok(Resolution::Keep(pair));
        }
        Ok(_) => IssueReason::Forced,
        Err(reason) => reason,
    };
    let ca = policy.open(&reason)?;
    ca.check_time(now).map_err(CertError::Ca)?;
    let pair = issue::issue(
        &ca,
        policy.key_algorithm,
        not_before(&ca, now),
        policy.not_after(ca.not_after(), now),
    )?;
    if !policy.draft {
        issue::verify(&ca, &pair, now)?;
    }
    Ok(Resolution::Issue {
        pair,
        reason,
        clamp: policy.clamp_to(ca.not_after(), now),
    })
}

/// The same where certificates are issued elsewhere: the one that is `given` takes the place of the
/// one in use. Where none is given, the one in use stays.
pub fn resolve_given(
    current: Option<&str>,
    given: Option<&ClientPair>,
    ca: &CaCertificates,
) -> Result<Resolution, CertError> {
    let in_use = current.and_then(|text| ClientPair::from_pem(text).ok());
    match (given, in_use) {
        (Some(given), in_use) => {
            let same = in_use.is_some_and(|pair| pair.facts() == given.facts());
            Ok(if same {
                Resolution::Keep(given.clone())
            } else {
                Resolution::Issue {
                    pair: given.clone(),
                    reason: if current.is_none() {
                        IssueReason::First
                    } else {
                        IssueReason::Given
                    },
                    clamp: None,
                }
            })
        }
        (None, Some(pair)) => {
            let chain = ca.chain_of(pair.der(), pair.chain());
            Ok(Resolution::Keep(pair.with_chain(chain)))
        }
        (None, None) => Err(CertError::NoneGiven),
    }
}

/// What a plan shows where the certificate is not there yet: one that nobody uses.
pub fn sample(ca: &CaCertificates, now: OffsetDateTime) -> Result<Resolution, CertError> {
    let ca = ca.stand_in(None).map_err(CertError::Ca)?;
    let algorithm = KeyAlgorithm::EcdsaP256;
    let pair = issue::issue(&ca, algorithm, not_before(&ca, now), ca.not_after())?;
    Ok(Resolution::Issue {
        pair,
        reason: IssueReason::First,
        clamp: None,
    })
}

/// Why another certificate must be given or asked for; `None`: the one in use stays. `early`: that
/// many hours before its end.
#[must_use]
pub fn due_given(
    current: Option<&str>,
    given: Option<&ClientPair>,
    early_renewal_hours: u64,
    now: OffsetDateTime,
) -> Option<IssueReason> {
    let Some(text) = current else {
        return Some(IssueReason::First);
    };
    let pair = match ClientPair::from_pem(text) {
        Ok(pair) => pair,
        Err(error) => return Some(IssueReason::Unreadable(error.to_string())),
    };
    if given.is_some_and(|given| given.facts() != pair.facts()) {
        return Some(IssueReason::Given);
    }
    let left = pair.not_after() - now;
    (left <= span(early_renewal_hours)).then(|| IssueReason::Due {
        hours_left: hours(left),
    })
}

/// Rounded down: a certificate that ended a moment ago has expired.
fn hours(left: Duration) -> i64 {
    const HOUR: i128 = 3600 * 1_000_000_000;
    let hours = left.whole_nanoseconds().div_euclid(HOUR);
    i64::try_from(hours).unwrap_or(i64::MIN)
}

/// Why [`resolve`] would issue a new certificate, or `None` where it would keep the one in use.
/// Issues nothing.
#[must_use]
pub fn due(current: Option<&str>, policy: Policy<'_>, now: OffsetDateTime) -> Option<IssueReason> {
    judge(current, policy, now).err()
}

/// The pair in use, with what is to be sent with it, and its issuer; or why it is to be replaced.
fn judge(
    current: Option<&str>,
    policy: Policy<'_>,
    now: OffsetDateTime,
) -> Result<(ClientPair, usize), IssueReason> {
    let text = current.ok_or(IssueReason::First)?;
    let pair = ClientPair::from_pem(text).map_err(|e| IssueReason::Unreadable(e.to_string()))?;
    let issuer = pair.issuer_in(policy.ca);
    let Some((issuer, ca)) = issuer.and_then(|at| Some((at, policy.ca.at(at)?))) else {
        return Err(IssueReason::CaChanged);
    };
    if !pair.is_like_ours() {
        return Err(IssueReason::Unreadable(format!(
            "its certificate is not a client certificate of {COMMON_NAME}"
        )));
    }
    let ca_end = not_after(&ca);
    // One that outlives its CA was issued when the CA had another end.
    if pair.not_after() > ca_end || is_to_be_of_another(policy, issuer) {
        return Err(IssueReason::CaChanged);
    }
    if pair.key_algorithm() != Some(policy.key_algorithm) {
        return Err(IssueReason::AlgorithmChanged);
    }
    if pair.not_before() > now {
        return Err(IssueReason::NotYetValid);
    }
    let left = pair.not_after() - now;
    let gain = policy.not_after(ca_end, now) - pair.not_after();
    let expired = !left.is_positive() && gain.is_positive();
    if expired || left <= span(policy.early_renewal_hours) && gain >= LEAST_GAIN {
        return Err(IssueReason::Due {
            hours_left: hours(left),
        });
    }
    let chain = policy.ca.chain_of(pair.der(), &[]);
    Ok((pair.with_chain(chain), issuer))
}

/// Whether the key is of another CA than the one that issued the certificate in use. During a
/// rotation two CAs are given, and the key alone says which one is to issue. A key that is not
/// there says nothing, and the certificate stays.
fn is_to_be_of_another(policy: Policy<'_>, issuer: usize) -> bool {
    policy.ca.has_others_beside(issuer)
        && policy.source.open().is_ok_and(|ca| {
            policy
                .ca
                .at(issuer)
                .is_some_and(|issuer| !ca.has_key_of(&issuer))
        })
}

/// Hours as a duration; more than the calendar holds is cut to a million years, which can still be
/// added and compared.
fn span(hours: u64) -> Duration {
    const MOST: u64 = 1_000_000 * 365 * 24;
    Duration::hours(hours.min(MOST).cast_signed())
}
