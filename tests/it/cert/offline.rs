//! The CA's key is opened by what issues, and by nothing else.

use std::cell::Cell;

use lbctl::testing::cert::{
    Ca, CaSource, ClientPair, IssueReason, KeyError, Policy, Resolution, due, due_given, resolve,
    resolve_given,
};
use lbctl::testing::secret::Secret;
use time::{Duration, OffsetDateTime};

use super::workshop::{CaSpec, Workshop, run};
use super::{DAY, issued, policy};

/// Counts how often it is opened. `None`: the key is kept elsewhere.
#[derive(Debug)]
struct Counted(Option<Ca>, Cell<u32>);

impl CaSource for Counted {
    fn open(&self) -> Result<Ca, KeyError> {
        self.1.set(self.1.get() + 1);
        self.0.clone().ok_or(KeyError {
            message: "`ca_key` cannot be read".into(),
            hint: "have it there".into(),
        })
    }
}

fn counted(ca: Option<&Ca>) -> Counted {
    Counted(ca.cloned(), Cell::new(0))
}

#[test]
fn a_certificate_that_stays_is_judged_without_the_key() {
    let shop = Workshop::new();
    let root = shop.ca(&CaSpec {
        subject: "/CN=root",
        ..CaSpec::default()
    });
    let below = shop.ca(&CaSpec {
        subject: "/CN=below",
        issuer: Some(&root),
        ..CaSpec::default()
    });
    let both = format!("{}{}", below.certificate, root.certificate);
    let ca = Ca::load(&Secret::new(below.key.clone()), &both).unwrap();
    let now = OffsetDateTime::now_utc();
    let (pair, _) = issued(None, policy(&ca), now);
    let text = pair.pem();
    for source in [counted(None), counted(Some(&ca))] {
        let policy = Policy {
            source: &source,
            ..policy(&ca)
        };
        for (now, reason) in [
            (now, None),
            (
                now + Duration::days(25),
                Some(IssueReason::Due {
                    hours_left: 5 * 24 - 1,
                }),
            ),
        ] {
            assert_eq!(due(Some(text.expose()), policy, now), reason);
            let draft = Policy {
                draft: true,
                ..policy
            };
            let shown = resolve(Some(text.expose()), draft, now, false).unwrap();
            assert_eq!(matches!(shown, Resolution::Issue { .. }), reason.is_some());
            assert_eq!(shown.pair().facts().issuer, "CN=below");
        }
        assert!(matches!(
            resolve(Some(text.expose()), policy, now, false).unwrap(),
            Resolution::Keep(_)
        ));
        assert_eq!(source.1.get(), 0, "the key was opened");
    }
}

#[test]
fn a_certificate_that_is_due_says_for_what_the_key_is_needed() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    let source = counted(None);
    let policy = Policy {
        source: &source,
        ..policy(&ca)
    };
    let now = OffsetDateTime::now_utc();
    let error = resolve(None, policy, now, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a client certificate must be issued (there is none yet), and `ca_key` cannot be read"
    );
    assert_eq!(error.hint(), Some("have it there"));
    assert_eq!(source.1.get(), 1);
}

#[test]
fn during_a_rotation_the_key_says_which_ca_issues() {
    let shop = Workshop::new();
    let [old, new] = ["/CN=old", "/CN=new"].map(|subject| {
        shop.ca(&CaSpec {
            subject,
            ..CaSpec::default()
        })
    });
    let both = format!("{}{}", old.certificate, new.certificate);
    let [by_old, by_new] =
        [&old, &new].map(|made| Ca::load(&Secret::new(made.key.clone()), &both).unwrap());
    let now = OffsetDateTime::now_utc();
    let (pair, _) = issued(None, policy(&by_old), now);
    let text = pair.pem();
    let absent = counted(None);
    let of = |source| Policy {
        source,
        ..policy(&by_old)
    };
    assert_eq!(due(Some(text.expose()), of(&by_old), now), None);
    assert_eq!(
        due(Some(text.expose()), of(&by_new), now),
        Some(IssueReason::CaChanged)
    );
    // A key that is not there says nothing, and the certificate stays.
    assert_eq!(due(Some(text.expose()), of(&absent), now), None);
    let (pair, _) = issued(Some(text.expose()), of(&by_new), now);
    assert_eq!(pair.facts().issuer, "CN=new");
}

/// The intermediate is sent; the root is not.
#[test]
fn the_chain_goes_with_the_certificate() {
    let shop = Workshop::new();
    let root = shop.ca(&CaSpec {
        subject: "/CN=root",
        ..CaSpec::default()
    });
    let middle = shop.ca(&CaSpec {
        subject: "/CN=middle",
        issuer: Some(&root),
        ..CaSpec::default()
    });
    let below = shop.ca(&CaSpec {
        subject: "/CN=below",
        issuer: Some(&middle),
        ..CaSpec::default()
    });
    let now = OffsetDateTime::now_utc();
    for order in [
        [&below, &middle, &root],
        [&root, &middle, &below],
        [&middle, &root, &below],
    ] {
        let all: String = order.iter().map(|made| made.certificate.as_str()).collect();
        let ca = Ca::load(&Secret::new(below.key.clone()), &all).unwrap();
        let (pair, _) = issued(None, policy(&ca), now);
        let expected = format!(
            "{}{}{}",
            pair.certificate_pem(),
            below.certificate,
            middle.certificate
        );
        assert_eq!(pair.chain_pem(), expected);
        let file = shop.write("chain.pem", pair.pem().expose());
        let trusted = shop.write("root.pem", &root.certificate);
        let verdict = run(&[
            "openssl",
            "verify",
            "-purpose",
            "sslclient",
            "-CAfile",
            &trusted,
            "-untrusted",
            &file,
            &file,
        ]);
        assert!(verdict.contains(": OK"), "{verdict}");
        // What an earlier lbctl kept without its chain gets it.
        let bare = format!("{}{}", pair.key_pem().expose(), pair.certificate_pem());
        let kept = resolve(Some(&bare), policy(&ca), now, false).unwrap();
        assert!(matches!(&kept, Resolution::Keep(kept) if kept.pem() == pair.pem()));
    }
}

#[test]
fn a_certificate_from_elsewhere_takes_the_place_of_another() {
    let shop = Workshop::new();
    let ca = shop.ca(&CaSpec::default()).load();
    let now = OffsetDateTime::now_utc();
    let [first, second] = [0, 0].map(|_| issued(None, policy(&ca), now).0);
    let given = |pair: &ClientPair| {
        ClientPair::given(pair.key_pem(), pair.certificate_pem(), ca.certificates()).unwrap()
    };
    let (in_use, other) = (given(&first), given(&second));
    let text = in_use.pem();
    let resolved = |current: Option<&str>, given: Option<&ClientPair>| {
        resolve_given(current, given, ca.certificates())
    };
    assert!(matches!(
        resolved(Some(text.expose()), Some(&in_use)).unwrap(),
        Resolution::Keep(_)
    ));
    assert!(matches!(
        resolved(Some(text.expose()), None).unwrap(),
        Resolution::Keep(_)
    ));
    let Resolution::Issue { pair, reason, .. } =
        resolved(Some(text.expose()), Some(&other)).unwrap()
    else {
        panic!("the other one is configured")
    };
    assert_eq!((pair.pem(), reason), (other.pem(), IssueReason::Given));
    let none = resolved(None, None).unwrap_err();
    assert!(none.hint().unwrap().contains("lbctl csr"));
    // It is reported in time, though lbctl cannot renew it.
    let asked = |given, days| {
        due_given(
            Some(text.expose()),
            given,
            10 * DAY,
            now + Duration::days(days),
        )
    };
    assert_eq!(asked(Some(&in_use), 0), None);
    assert_eq!(asked(Some(&other), 0), Some(IssueReason::Given));
    assert!(matches!(
        asked(Some(&in_use), 25),
        Some(IssueReason::Due { .. })
    ));
    assert!(matches!(asked(None, 40), Some(IssueReason::Due { hours_left }) if hours_left < 0));
}
