//! Settings that are valid, each by itself, and with which a failover takes long or a certificate
//! ends unseen. All of it is warnings: what is slow in one place is right in another.

use super::diagnostics::Spanned;
use super::model::{Check, Timeouts};
use super::reader::Section;

/// The defaults give 10.7 s. From there on a node that stands still is noticed later than a node
/// that dies is replaced: Patroni's `ttl` is 30 s by default.
const SLOW_TO_GIVE_UP: u64 = 15_000;
/// The defaults give a quarter of a second.
const SLOW_TO_USE: u64 = 5_000;
/// `lbctl-renew.timer` runs daily.
const BETWEEN_RENEWALS: i64 = 24;
/// Ten years.
const LONG_VALIDITY: i64 = 10 * 365 * 24;

/// How long it takes until a node is given up, and until one is used.
pub(super) fn failover(haproxy: &Section<'_>, timeouts: &Timeouts, check: &Check) {
    let (in_timeouts, in_check) = (
        haproxy.section_or_defaults("timeouts"),
        haproxy.section_or_defaults("check"),
    );
    let fall = u64::from(check.fall);
    let answers = fall.saturating_mul(timeouts.check.millis());
    let between = fall.saturating_sub(1).saturating_mul(check.fast.millis());
    let given_up = check
        .interval
        .millis()
        .saturating_add(answers)
        .saturating_add(between);
    if given_up > SLOW_TO_GIVE_UP {
        let keys = [
            (check.interval.millis(), in_check.given("interval")),
            (answers, in_timeouts.given("check")),
            (answers, in_check.given("fall")),
            (between, in_check.given("fast")),
        ];
        let what = format!(
            "has a node that stands still count as up for {}: check.interval = {}, then check.fall = {} checks of \
             timeouts.check = {}",
            seconds(given_up),
            check.interval,
            check.fall,
            timeouts.check
        );
        let help =
            "lower it: until then no other node is used in its place; the defaults make it 10.7 s";
        warn_longest(haproxy, keys, &what, help);
    }
    let used = u64::from(check.rise).saturating_mul(check.down.millis());
    if used > SLOW_TO_USE {
        let keys = [
            (check.down.millis(), in_check.given("down")),
            (
                u64::from(check.rise).saturating_mul(250),
                in_check.given("rise"),
            ),
        ];
        let what = format!(
            "has a new primary used up to {} after its promotion: check.rise = {} good checks, check.down = {} apart",
            seconds(used),
            check.rise,
            check.down
        );
        warn_longest(
            haproxy,
            keys,
            &what,
            "lower it: clients wait for as long; the defaults make it 0.25 s",
        );
    }
}

/// At the key that adds most, of those that are in the file.
fn warn_longest<T>(
    haproxy: &Section<'_>,
    keys: impl IntoIterator<Item = (u64, Option<Spanned<T>>)>,
    what: &str,
    help: &str,
) {
    let given = keys
        .into_iter()
        .filter_map(|(adds, key)| Some((adds, key?)));
    // The first of equal ones: `max_by_key` would take the last.
    let longest = given.reduce(|longest, next| if next.0 > longest.0 { next } else { longest });
    if let Some((_, key)) = longest {
        haproxy.diagnostics().warn(&key, what, help);
    }
}

fn seconds(millis: u64) -> String {
    match millis {
        60_000.. => format!("{} s", millis.div_ceil(1000)),
        _ => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
    }
}

/// How long the certificates last that lbctl issues. `client` is `[haproxy.patroni_client]`.
pub(super) fn certificate(client: &Section<'_>) {
    let diagnostics = client.diagnostics();
    let (validity, early_renewal) = (
        client.given_integer("certificate_validity_period"),
        client.given_integer("certificate_early_renewal_period"),
    );
    if let Some(hours) = early_renewal.filter(|hours| hours.value < BETWEEN_RENEWALS) {
        let what = format!(
            "is {} hours, and lbctl-renew.timer runs once a day: the certificate may end before a run that renews it",
            hours.value
        );
        let help = "give 24 or more, or have `lbctl renew` run more often";
        diagnostics.warn(&hours, &what, help);
    }
    if let Some(hours) = validity.filter(|hours| hours.value > LONG_VALIDITY) {
        let what = format!(
            "is {} years, and whoever has the key may use it for as long",
            hours.value / (365 * 24)
        );
        let help = "give 8760: it is renewed by itself, and that cuts no session";
        diagnostics.warn(&hours, &what, help);
    }
}
