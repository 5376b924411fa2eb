//! When the certificate in use stays, and why it is replaced otherwise: tables of times.

use lbctl::testing::cert::KeyAlgorithm;
use lbctl::testing::cert::{IssueReason, Part, Policy, Resolution, due, resolve};
use time::{Duration, OffsetDateTime};

use super::workshop::{CaSpec, Workshop, run};
use super::{DAY, issued, policy};

#[test]
fn a_ca_out_of_its_time_is_refused_at_issuing_not_at_loading() {
    let shop = Workshop::new();
    let ca = shop
        .ca(&CaSpec {
            days: 10,
            ..CaSpec::default()
        })
        .load();
    for (now, message) in [
        (
            ca.not_before() - Duration::seconds(1),
            Some("not valid before"),
        ),
        (ca.not_before(), None),
        (ca.not_after(), None),
        (ca.not_after() + Duration::seconds(1), Some("expired on")),
        (ca.not_after() + Duration::days(50_000), Some("expired on")),
    ] {
        let told = ca.check_time(now).err();
        assert_eq!(told.is_some(), message.is_some(), "{now}");
        assert!(told.is_none_or(|e| e.part == Part::Certificate && e.message.contains(message.unwrap())), "{now}");
        assert_eq!(
            resolve(None, policy(&ca), now, false).is_err(),
            message.is_some(),
            "{now}"
        );
        // Asking never fails, whatever the time.
        let _ = (policy(&ca).clamp(now), due(None, policy(&ca), now));
    }
}

/// `(hours since issuing, validity, early renewal, expected)` for a certificate of 30 days under a
/// CA of 20 years.
#[test]
fn a_certificate_is_kept_until_it_is_due() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    let issued_at = ca.not_before() + Duration::hours(2);
    let (pair, _) = issued(None, policy(&ca), issued_at);
    assert_eq!(pair.not_after(), issued_at + Duration::days(30));
    assert_eq!(pair.not_before(), issued_at - Duration::hours(1));
    let pem = pair.pem();
    let at = |hours: i64, validity_hours: u64, early_renewal_hours: u64| {
        due(
            Some(pem.expose()),
            Policy {
                validity_hours,
                early_renewal_hours,
                ..policy(&ca)
            },
            issued_at + Duration::hours(hours),
        )
    };
    let days = |hours_left: i64| Some(IssueReason::Due { hours_left });
    #[rustfmt::skip]
    let table = [
        (0, 720, 240, None),
        (479, 720, 240, None),
        (480, 720, 240, days(240)),
        (719, 720, 240, days(1)),
        (720, 720, 0, days(0)),
        (721, 720, 0, days(-1)),
        (5000, 720, 240, days(720 - 5000)),
        (719, 720, 0, None),
        // The policy changed: a longer renewal period makes it due, a shorter validity does not.
        (1, 720, 719, days(719)),
        (1, 24, 1, None),
        (0, 8760, 1000, days(720)),
        // A new one would not last longer, or hardly.
        (0, 720, 720, None),
        (0, 720, u64::MAX, None),
        (1, 720, 100_000, days(719)),
        (715, 4, 4, None),
        (716, 5, 5, days(4)),
        // Hours beyond the calendar.
        (480, u64::MAX, 240, days(240)),
        (0, u64::MAX, 0, None),
        // The clock went back.
        (-2, 720, 240, Some(IssueReason::NotYetValid)),
        (-1, 720, 240, None),
    ];
    for (hours, validity, early, expected) in table {
        assert_eq!(
            at(hours, validity, early),
            expected,
            "{hours} h, {validity}, {early}"
        );
    }
}

#[test]
fn another_ca_or_another_algorithm_issues_again() {
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec {
        subject: "/CN=same",
        ..CaSpec::default()
    });
    let ca = made.load();
    let now = OffsetDateTime::now_utc();
    let (pair, _) = issued(None, policy(&ca), now);
    let pem = pair.pem().expose().to_owned();

    let impostor = shop
        .ca(&CaSpec {
            subject: "/CN=same",
            ..CaSpec::default()
        })
        .load();
    assert_eq!(
        due(Some(&pem), policy(&impostor), now),
        Some(IssueReason::CaChanged),
        "same name, other key"
    );
    let renamed = shop.again(&made, "/CN=other", 3650).load();
    assert_eq!(
        due(Some(&pem), policy(&renamed), now),
        Some(IssueReason::CaChanged),
        "same key, other name"
    );
    let shorter = shop.again(&made, "/CN=same", 20).load();
    assert_eq!(
        due(Some(&pem), policy(&shorter), now),
        Some(IssueReason::CaChanged),
        "the CA ends before it"
    );
    let longer = shop.again(&made, "/CN=same", 9000).load();
    assert_eq!(
        due(Some(&pem), policy(&longer), now),
        None,
        "the CA was renewed with its key"
    );

    let rsa = Policy {
        key_algorithm: KeyAlgorithm::Rsa4096,
        ..policy(&ca)
    };
    assert_eq!(
        due(Some(&pem), rsa, now),
        Some(IssueReason::AlgorithmChanged)
    );
}

#[test]
fn a_seed_without_a_pair_of_ours_issues_and_force_always_does() {
    let shop = Workshop::new();
    let made = shop.ca(&CaSpec::default());
    let ca = made.load();
    let now = OffsetDateTime::now_utc();
    let (pair, _) = issued(None, policy(&ca), now);
    let pem = pair.pem().expose().to_owned();
    for damaged in [
        "",
        "garbage",
        &pem[..pem.len() / 2],
        pair.certificate_pem(),
        pair.key_pem().expose(),
    ] {
        let reason = due(Some(damaged), policy(&ca), now);
        assert!(
            matches!(reason, Some(IssueReason::Unreadable(_))),
            "{reason:?}"
        );
    }
    let (other, _) = issued(None, policy(&ca), now);
    let crossed = format!("{}{}", pair.key_pem().expose(), other.certificate_pem());
    let reason = due(Some(&crossed), policy(&ca), now).unwrap();
    assert!(reason.to_string().contains("does not belong"), "{reason}");
    let foreign = format!("{}{}", made.key, made.certificate);
    let reason = due(Some(&foreign), policy(&ca), now).unwrap();
    assert!(
        reason.to_string().contains("not a client certificate"),
        "{reason}"
    );

    match resolve(Some(&pem), policy(&ca), now, true).unwrap() {
        Resolution::Issue {
            reason: IssueReason::Forced,
            pair: new,
            clamp: None,
        } => assert_ne!(new.facts(), pair.facts()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_that_ends_with_its_ca_is_not_renewed_each_time() {
    let shop = Workshop::new();
    let ca = shop
        .ca(&CaSpec {
            days: 15,
            ..CaSpec::default()
        })
        .load();
    let now = OffsetDateTime::now_utc();
    let Resolution::Issue {
        pair,
        clamp: Some(clamp),
        ..
    } = resolve(None, policy(&ca), now, false).unwrap()
    else {
        panic!("no warning")
    };
    assert_eq!(pair.not_after(), ca.not_after());
    assert!(
        clamp.to_string().contains("ends with its CA") && clamp.to_string().contains("15 days"),
        "{clamp}"
    );
    let pem = pair.pem();
    for hours in [0, 1, 24 * 6, 24 * 14, 24 * 15 - 1] {
        let then = now + Duration::hours(hours);
        assert_eq!(
            due(Some(pem.expose()), policy(&ca), then),
            None,
            "after {hours} h"
        );
    }
    // The CA is renewed with its key: now there is something to gain.
    let made = shop.ca(&CaSpec {
        days: 15,
        ..CaSpec::default()
    });
    let now = OffsetDateTime::now_utc();
    let (pair, _) = issued(None, policy(&made.load()), now);
    let renewed = shop.again(&made, CaSpec::default().subject, 3650).load();
    let then = now + Duration::days(6);
    assert!(matches!(
        due(Some(pair.pem().expose()), policy(&renewed), then),
        Some(IssueReason::Due { .. })
    ));
}

#[test]
fn a_hundred_years_and_more_are_written_correctly() {
    let shop = Workshop::new();
    let ca = shop
        .ca(&CaSpec {
            days: 2_800_000,
            ..CaSpec::default()
        })
        .load();
    assert!(ca.not_after().year() > 9600);
    let now = OffsetDateTime::now_utc();
    for hours in [
        100 * 365 * DAY,
        24 * 365 * DAY,
        7000 * 365 * DAY,
        8000 * 365 * DAY,
        u64::MAX,
    ] {
        let policy = Policy {
            validity_hours: hours,
            early_renewal_hours: 365 * DAY,
            ..policy(&ca)
        };
        let (pair, _) = issued(None, policy, now);
        let asked = i64::try_from(hours)
            .ok()
            .and_then(|h| now.checked_add(Duration::seconds(h.checked_mul(3600)?)));
        let expected = asked
            .map_or(ca.not_after(), |end| end.min(ca.not_after()))
            .replace_nanosecond(0)
            .unwrap();
        assert_eq!(pair.not_after(), expected, "{hours}");
        let ca_file = shop.write("far-ca.crt", ca.certificates().pem());
        let file = shop.write("far.crt", pair.certificate_pem());
        assert!(
            run(&[
                "openssl",
                "verify",
                "-x509_strict",
                "-CAfile",
                &ca_file,
                &file
            ])
            .contains(": OK"),
            "{hours}"
        );
        assert_eq!(due(Some(pair.pem().expose()), policy, now), None, "{hours}");
    }
}

#[test]
fn resolving_twice_keeps_whatever_the_periods_are() {
    let shop = Workshop::new();
    let cas = [1, 15, 3650].map(|days| {
        shop.ca(&CaSpec {
            days,
            ..CaSpec::default()
        })
        .load()
    });
    let now = OffsetDateTime::now_utc();
    for ca in &cas {
        for validity_hours in [1, 2, 23, 720, 876_000, u64::MAX] {
            for early_renewal_hours in [0, 1, 22, 720, 900_000, u64::MAX] {
                let policy = Policy {
                    ca: ca.certificates(),
                    source: ca,
                    draft: false,
                    validity_hours,
                    early_renewal_hours,
                    key_algorithm: KeyAlgorithm::EcdsaP256,
                };
                let (pair, _) = issued(None, policy, now);
                assert!(pair.not_after() <= ca.not_after() && pair.not_before() >= ca.not_before());
                for minutes in [0, 1, 59] {
                    let then = now + Duration::minutes(minutes);
                    assert_eq!(
                        due(Some(pair.pem().expose()), policy, then),
                        None,
                        "{validity_hours} {early_renewal_hours}"
                    );
                }
            }
        }
    }
}

#[test]
fn reasons_and_warnings_are_sentences_for_a_plan() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    #[rustfmt::skip]
    let table = [
        (IssueReason::First, "there is none yet"),
        (IssueReason::Unreadable("its key is lost".into()), "the one in the seed cannot be used: its key is lost"),
        (IssueReason::CaChanged, "the CA changed"),
        (IssueReason::AlgorithmChanged, "the key algorithm changed"),
        (IssueReason::NotYetValid, "the one in use is not valid yet"),
        (IssueReason::Due { hours_left: -1 }, "the one in use has expired"),
        (IssueReason::Due { hours_left: 0 }, "the one in use expires in less than an hour"),
        (IssueReason::Due { hours_left: 1 }, "the one in use expires in 1 hour"),
        (IssueReason::Due { hours_left: 47 }, "the one in use expires in 47 hours"),
        (IssueReason::Due { hours_left: 240 }, "the one in use expires in 10 days"),
        (IssueReason::Forced, "asked for"),
    ];
    for (reason, text) in table {
        assert_eq!(reason.to_string(), text);
    }
    let validity = |validity_hours| Policy {
        validity_hours,
        ..policy(&ca)
    };
    let end = ca.not_after();
    assert_eq!(validity(10).clamp(end - Duration::hours(10)), None);
    let clamp = |before: i64| {
        validity(10)
            .clamp(end - Duration::minutes(before))
            .map(|clamp| clamp.hours_less)
    };
    assert_eq!(
        [600, 599, 540, 539, 0].map(clamp),
        [None, Some(1), Some(1), Some(2), Some(10)]
    );
    assert!(validity(u64::MAX).clamp(end - Duration::days(1)).is_some());
}
