//! Whether the certificate in use stays, and the new one where it does not.
//!
//! Architecture invariant: resolving what was just resolved keeps it, whatever the policy: each
//! reason to issue is gone in the certificate that it issues.

use std::fmt;

use time::{Duration, OffsetDateTime};

use super::ca::{Ca, CaError, stamp};
use super::issue;
use super::pair::{ClientPair, KeyAlgorithm};

/// How far before its issuing a certificate is valid, for guests and nodes whose clock is behind
/// ours.
const BACKDATE: Duration = Duration::hours(1);

/// A certificate that is due is only replaced by one that lasts at least this much longer. Periods
/// are whole hours, so a certificate issued in full and now due always gains as much; one that ends
/// with its CA gains nothing, and would otherwise be replaced at every run.
const LEAST_GAIN: Duration = Duration::hours(1);

/// How client certificates are made.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub ca: &'a Ca,
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
            Self::NoValidity => Some("set certificate_validity_period to at least 1 (hours)"),
            Self::Issuing(_) => None,
        }
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(error) => write!(f, "issuing the client certificate: {error}"),
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
        let asked = span(self.validity_hours);
        let possible = self.ca.not_after() - now;
        (asked > possible).then(|| Clamp {
            not_after: self.ca.not_after(),
            hours_less: (asked - possible + Duration::hours(1) - Duration::nanoseconds(1))
                .whole_hours(),
        })
    }

    /// The end of a certificate issued at `now`: in whole seconds, for so it is written, and never
    /// after the CA's.
    fn not_after(&self, now: OffsetDateTime) -> OffsetDateTime {
        let end = now
            .checked_add(span(self.validity_hours))
            .unwrap_or(self.ca.not_after())
            .min(self.ca.not_after());
        end.replace_nanosecond(0).unwrap_or(end)
    }

    fn not_before(&self, now: OffsetDateTime) -> OffsetDateTime {
        let start = now.checked_sub(BACKDATE).unwrap_or(now);
        start
            .replace_nanosecond(0)
            .unwrap_or(start)
            .max(self.ca.not_before())
    }
}

/// Keeps the pair in use (`current`: the text read from the seed) or issues a new one. With
/// `force`, always a new one. Errors: a CA that is expired or not yet valid (nothing verifies then,
/// neither old nor new), no validity.
pub fn resolve(
    current: Option<&str>,
    policy: Policy<'_>,
    now: OffsetDateTime,
    force: bool,
) -> Result<Resolution, CertError> {
    policy.ca.check_time(now).map_err(CertError::Ca)?;
    if policy.validity_hours == 0 {
        return Err(CertError::NoValidity);
    }
    let reason = match judge(current, policy, now) {
        Ok(pair) if !force => return Ok(Resolution::Keep(pair)),
        Ok(_) => IssueReason::Forced,
        Err(reason) => reason,
    };
    let pair = issue::issue(
        policy.ca,
        policy.key_algorithm,
        policy.not_before(now),
        policy.not_after(now),
    )?;
    Ok(Resolution::Issue {
        pair,
        reason,
        clamp: policy.clamp(now),
    })
}

/// Why [`resolve`] would issue a new certificate, or `None` where it would keep the one in use.
/// Issues nothing.
#[must_use]
pub fn due(current: Option<&str>, policy: Policy<'_>, now: OffsetDateTime) -> Option<IssueReason> {
    judge(current, policy, now).err()
}

fn judge(
    current: Option<&str>,
    policy: Policy<'_>,
    now: OffsetDateTime,
) -> Result<ClientPair, IssueReason> {
    let text = current.ok_or(IssueReason::First)?;
    let pair = ClientPair::from_pem(text).map_err(|e| IssueReason::Unreadable(e.to_string()))?;
    // One that outlives its CA was issued when the CA had another end.
    if !pair.is_issued_by(policy.ca) || pair.not_after() > policy.ca.not_after() {
        return Err(IssueReason::CaChanged);
    }
    if pair.key_algorithm() != Some(policy.key_algorithm) {
        return Err(IssueReason::AlgorithmChanged);
    }
    if pair.not_before() > now {
        return Err(IssueReason::NotYetValid);
    }
    let left = pair.not_after() - now;
    let gain = policy.not_after(now) - pair.not_after();
    let expired = !left.is_positive() && gain.is_positive();
    if expired || left <= span(policy.early_renewal_hours) && gain >= LEAST_GAIN {
        return Err(IssueReason::Due {
            hours_left: (left.whole_seconds()).div_euclid(3600),
        });
    }
    Ok(pair)
}

/// Hours as a duration; more than the calendar holds is cut to a million years, which can still be
/// added and compared.
fn span(hours: u64) -> Duration {
    const MOST: u64 = 1_000_000 * 365 * 24;
    Duration::hours(hours.min(MOST).cast_signed())
}
