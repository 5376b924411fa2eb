//! What the package brings for Prometheus and Grafana, judged by Prometheus itself (`promtool`):
//! the alert rules and the dashboard before the metrics of a real HAProxy in health and in each
//! kind of trouble (`tests/render/watch.py`), and before what `lbctl status --textfile` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lbctl::testing::render::haproxy_cfg;
use lbctl::testing::status::{GuestAnswer, Look, Status, exposition};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::render::oracle::{must, run, scratch, tell, words, write};
use crate::render::sample::{before_fake_nodes, most};
use crate::status::{answers, guest};

const RULES: &str = include_str!("../../packaging/prometheus/lbctl.rules.yml");
const DASHBOARD: &str = include_str!("../../packaging/prometheus/lbctl.dashboard.json");
/// How often each state is seen, for ten minutes.
const SEEN: usize = 21;
/// How often a file of metrics is seen in thirty hours.
const ALL: usize = 451;
/// The labels that Prometheus adds.
const TARGET: &str = r#"job="lbctl",instance="lb-1:8405""#;

fn packaged(file: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("packaging/prometheus").join(file)
}

fn promtool(arguments: &[&Path]) -> Command {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/promtool");
    let mut command = Command::new(if unpacked.exists() {
        unpacked
    } else {
        "promtool".into()
    });
    command.args(arguments);
    command
}

/// The samples of a text in Prometheus's format: series without their value, and the value.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let sample = line.rsplit_once(' ');
            sample.unwrap_or_else(|| panic!("{line:?} is no sample"))
        })
        .collect()
}

fn family(series: &str) -> &str {
    series.split('{').next().unwrap()
}

/// Every name of HAProxy's and lbctl's own metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| {
            let ours = word.starts_with("haproxy_") || word.starts_with("lbctl_");
            ours && !word.contains(':') && !word.ends_with('_')
        })
        .collect()
}

/// With the labels that a scrape adds.
fn scraped(series: &str) -> String {
    match series.strip_suffix('}') {
        Some(labelled) => format!("{labelled},{TARGET}}}"),
        None => format!("{series}{{{TARGET}}}"),
    }
}

/// What Prometheus sees in the course of time.
#[derive(Default)]
struct Course {
    /// Of each series, in promtool's notation.
    series: BTreeMap<String, String>,
    length: usize,
}

impl Course {
    /// The same metrics, that many times; `None`: the target is not reached.
    fn then(&mut self, metrics: Option<&str>, wanted: &BTreeSet<&str>, times: usize) {
        let mut now: BTreeMap<String, &str> = metrics
            .map(samples)
            .unwrap_or_default()
            .into_iter()
            .filter(|(series, _)| wanted.contains(family(series)))
            .map(|(series, value)| (scraped(series), value))
            .collect();
        now.insert(
            format!("up{{{TARGET}}}"),
            if metrics.is_some() { "1" } else { "0" },
        );
        for series in now.keys() {
            let before = format!("_x{}", self.length);
            self.series.entry(series.clone()).or_insert(before);
        }
        for (series, values) in &mut self.series {
            let more = now.get(series).map_or_else(
                || format!(" _x{times}"),
                |value| format!(" {value}+0x{}", times - 1),
            );
            values.push_str(&more);
        }
        self.length += times;
    }

    fn test(&self, interval: &str, checks: &[Value]) -> Value {
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|(series, values)| {
                json!({"series": series, "values": values.trim_start_matches("_x0 ")})
            })
            .collect();
        json!({"interval": interval, "input_series": series, "promql_expr_test": checks})
    }
}

/// That these alerts fire at that time, each with this many instances, and no others.
fn firing(at: &str, alerts: &[(&str, u32)]) -> Value {
    let sample = |(alert, count): &(&str, u32)| json!({"labels": format!("{{alertname=\"{alert}\"}}"), "value": count});
    json!({
        "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
        "eval_time": at,
        "exp_samples": alerts.iter().map(sample).collect::<Vec<_>>(),
    })
}

/// `every`: how often the rules are evaluated.
fn judge(every: &str, tests: &[Value]) {
    let place = scratch();
    let file = place.path().join("tests.json");
    let all = json!({
        "rule_files": [packaged("lbctl.rules.yml")],
        "evaluation_interval": every,
        "tests": tests,
    });
    write(&file, &all.to_string());
    let command = Path::new("test");
    must(
        "prometheus",
        &mut promtool(&[command, Path::new("rules"), &file]),
        "",
    );
}

/// The metrics of each state, by its name.
fn states(suite: &str, version: (u8, u8)) -> BTreeMap<String, String> {
    let mut config = before_fake_nodes(version);
    config.haproxy.max_connections = 40;
    // More places than nodes, as where one is to come.
    *most(&mut config) = 4;
    let dir = scratch();
    let cfg = dir.path().join("haproxy.cfg");
    write(&cfg, &haproxy_cfg(&config));
    tell("render/watch.py", suite, &[cfg.as_os_str()]);
    fs::read_dir(dir.path().join("metrics"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let state = path.file_name().unwrap().to_str().unwrap().to_owned();
            (state, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Ten minutes of health, ten of trouble, ten of health.
fn outage(
    metrics: &BTreeMap<String, String>,
    wanted: &BTreeSet<&str>,
    state: Option<&str>,
) -> Course {
    let mut course = Course::default();
    course.then(Some(&metrics["well"]), wanted, SEEN);
    course.then(state.map(|state| metrics[state].as_str()), wanted, SEEN);
    course.then(Some(&metrics["well again"]), wanted, SEEN);
    course
}

/// Every query of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(query) if key == "expr" => found.push(query.clone()),
                        other => walk(other, found),
                    }
                }
            }
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    walk(&dashboard, &mut found);
    let filled = found.iter().map(|query| {
        query
            .replace("$instance", ".+")
            .replace("$name", ".+")
            .replace("$__rate_interval", "1m")
    });
    filled.collect()
}

fn watches(suite: &str, version: (u8, u8)) {
    let metrics = states(suite, version);
    let both = format!("{RULES}{DASHBOARD}");
    let wanted: BTreeSet<&str> = names(&both)
        .into_iter()
        .filter(|name| name.starts_with("haproxy_"))
        .collect();
    let there: BTreeSet<&str> = samples(&metrics["well"]).into_keys().map(family).collect();
    let missing: Vec<_> = wanted.difference(&there).collect();
    assert!(
        missing.is_empty(),
        "HAProxy has no such metrics: {missing:?}"
    );
    assert!(wanted.len() > 8, "{wanted:?}");

    let mut tests = Vec::new();
    for (state, alerts) in [
        (Some("slow"), &[("LbctlNodeSlow", 1)][..]),
        (Some("failed"), &[("LbctlNodeFailed", 1)]),
        (Some("no primary"), &[("LbctlNoPrimary", 1)]),
        (
            Some("held"),
            &[("LbctlClientsWait", 1), ("LbctlNoPrimary", 1)],
        ),
        (
            Some("two primaries"),
            &[("LbctlClientsWait", 1), ("LbctlTwoPrimaries", 1)],
        ),
        (Some("full"), &[("LbctlConnectionsNearLimit", 1)]),
        (None, &[("LbctlTargetDown", 1)]),
    ] {
        let course = outage(&metrics, &wanted, state);
        let checks = vec![
            firing("10m", &[]),
            firing("20m", alerts),
            firing("30m", &[]),
        ];
        tests.push(course.test("30s", &checks));
    }
    // The record is what HAProxy itself counts (watch.py has compared it).
    let held = outage(&metrics, &wanted, Some("held"));
    let counted = |at: &str, count: u32| {
        json!({
            "expr": "sum(lbctl:held_clients)", "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": count}],
        })
    };
    tests.push(held.test("30s", &[counted("10m", 0), counted("20m", 5)]));
    // A failover of half a minute is nothing to wake anybody for.
    let mut failover = Course::default();
    failover.then(Some(&metrics["well"]), &wanted, SEEN);
    failover.then(Some(&metrics["held"]), &wanted, 1);
    failover.then(Some(&metrics["well again"]), &wanted, SEEN);
    let checks = ["10m30s", "11m", "12m"];
    tests.push(failover.test("30s", &checks.map(|at| firing(at, &[]))));

    // Each query of the dashboard has an answer.
    let course = outage(&metrics, &wanted, Some("held"));
    let of_haproxy = queries()
        .into_iter()
        .filter(|query| query.contains("haproxy_"));
    let checks: Vec<Value> = of_haproxy
        .map(|query| {
            json!({
                "expr": format!("sgn(count({query}))"), "eval_time": "20m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            })
        })
        .collect();
    assert!(checks.len() > 8, "{checks:?}");
    tests.push(course.test("30s", &checks));
    judge("30s", &tests);
}

#[test]
fn the_alerts_see_outages_before_haproxy_2_6() {
    watches("bookworm", (2, 6));
}

#[test]
fn the_alerts_see_outages_before_haproxy_3_0() {
    watches("trixie", (3, 0));
}

#[test]
fn the_alerts_see_outages_before_haproxy_3_2() {
    watches("sid", (3, 2));
}

/// At second 0 of the course of time, which is 1970.
fn status_ending(days: i64) -> Status {
    let mut status = answers(guest());
    status.at = OffsetDateTime::UNIX_EPOCH;
    let facts = status.certificate.as_mut().unwrap().facts.as_mut().unwrap();
    facts.not_after = OffsetDateTime::UNIX_EPOCH + Duration::days(days);
    status
}

fn look(status: Option<&Status>) -> Look<'_> {
    Look {
        name: "lb-1",
        at: OffsetDateTime::UNIX_EPOCH,
        status,
    }
}

/// What the node exporter shows of the file in the course of thirty hours, looked at every four
/// minutes: at the first `looks` of them lbctl has just written it.
fn of_textfile(status: Option<&Status>, looks: usize, check: &Value) -> Value {
    let text = exposition(&[look(status)]);
    let series: Vec<Value> = samples(&text)
        .into_iter()
        .map(|(series, value)| {
            let labelled = series.replace('}', ",job=\"node\",instance=\"kvm1:9100\"}");
            let values = if family(series) == "lbctl_status_time_seconds" {
                let last = 240 * (looks - 1);
                format!("{value}+240x{} {last}+0x{}", looks - 1, ALL - looks)
            } else {
                format!("{value}+0x{ALL}")
            };
            json!({"series": labelled, "values": values})
        })
        .collect();
    json!({"interval": "4m", "input_series": series, "promql_expr_test": [check]})
}

#[test]
fn the_alerts_see_what_lbctl_status_writes() {
    let drifted = |restart_pending| Status {
        drift: Ok(vec!["memory: 512 MiB -> 768 MiB (restart)".into()]),
        restart_pending,
        ..status_ending(90)
    };
    let unknown = Status {
        drift: Err("the guest does not answer".into()),
        certificate: None,
        ..status_ending(90)
    };
    let mut waits = status_ending(90);
    waits.guest = GuestAnswer::Off;
    waits.state = "shut off".into();
    judge(
        "4m",
        &[
            of_textfile(Some(&status_ending(90)), ALL, &firing("30h", &[])),
            of_textfile(Some(&unknown), ALL, &firing("30h", &[])),
            // Less than 24 days are left then, and less than 12.
            of_textfile(Some(&status_ending(25)), ALL, &firing("30h", &[])),
            of_textfile(
                Some(&status_ending(13)),
                ALL,
                &firing("30h", &[("LbctlCertificateEndsSoon", 1)]),
            ),
            of_textfile(Some(&drifted(false)), ALL, &firing("20h", &[])),
            of_textfile(
                Some(&drifted(false)),
                ALL,
                &firing("30h", &[("LbctlDrift", 1)]),
            ),
            of_textfile(Some(&drifted(true)), ALL, &firing("30h", &[])),
            of_textfile(Some(&waits), ALL, &firing("30h", &[("LbctlNotReady", 1)])),
            of_textfile(Some(&status_ending(90)), 150, &firing("10h30m", &[])),
            of_textfile(
                Some(&status_ending(90)),
                150,
                &firing("12h", &[("LbctlStatusStale", 1)]),
            ),
            of_textfile(None, ALL, &firing("15m", &[])),
            of_textfile(None, ALL, &firing("2h", &[("LbctlStatusUnknown", 1)])),
        ],
    );
}

#[test]
fn what_lbctl_status_writes_is_what_prometheus_reads() {
    let status = Status {
        drift: Ok(vec![String::new(); 2]),
        ..status_ending(11)
    };
    let text = exposition(&[
        look(Some(&status)),
        Look {
            name: "lb-2",
            ..look(None)
        },
    ]);
    let expected = r#"
# HELP lbctl_status_time_seconds When lbctl looked at the load balancer, in seconds since 1970.
# TYPE lbctl_status_time_seconds gauge
lbctl_status_time_seconds{name="lb-1"} 0
lbctl_status_time_seconds{name="lb-2"} 0
# HELP lbctl_status_success Whether libvirt answered. If it is 0, nothing else is known.
# TYPE lbctl_status_success gauge
lbctl_status_success{name="lb-1"} 1
lbctl_status_success{name="lb-2"} 0
# HELP lbctl_ready Whether psql through the load balancer works, as its guest says.
# TYPE lbctl_ready gauge
lbctl_ready{name="lb-1"} 1
# HELP lbctl_certificate_not_after_seconds When the client certificate ends, in seconds since 1970.
# TYPE lbctl_certificate_not_after_seconds gauge
lbctl_certificate_not_after_seconds{name="lb-1"} 950400
# HELP lbctl_certificate_due Whether the client certificate is to be renewed.
# TYPE lbctl_certificate_due gauge
lbctl_certificate_due{name="lb-1"} 0
# HELP lbctl_drift_changes How many changes `lbctl up` would make.
# TYPE lbctl_drift_changes gauge
lbctl_drift_changes{name="lb-1"} 2
# HELP lbctl_restart_pending Whether all of these changes are written and wait for a restart of the guest.
# TYPE lbctl_restart_pending gauge
lbctl_restart_pending{name="lb-1"} 0
"#;
    assert_eq!(text, expected.trim_start());
    let check = [Path::new("check"), Path::new("metrics")];
    let said = run("prometheus", &mut promtool(&check), &text);
    assert!(said.status.success(), "{}", words(&said));
    // What the rules and the dashboard ask for is there.
    let both = format!("{RULES}{DASHBOARD}");
    let there: BTreeSet<&str> = samples(&text).into_keys().map(family).collect();
    let asked = names(&both)
        .into_iter()
        .filter(|name| name.starts_with("lbctl_"));
    for name in asked {
        assert!(there.contains(name), "{name}");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_loads() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    // Of Grafana 10; newer ones bring it up to theirs when they load it.
    assert_eq!(dashboard["schemaVersion"], 38);
    assert_eq!(dashboard["uid"], "lbctl");
    // Grafana gives it one when it is imported; one of ours would be taken for another dashboard.
    assert_eq!(dashboard.get("id"), None);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let known: BTreeSet<&str> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .chain(["__rate_interval"])
        .collect();
    let (mut ids, mut places, mut asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let [x, y, wide, high] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(wide > 0 && high > 0 && x + wide <= 24, "{title}");
        for place in (x..x + wide).flat_map(|x| (y..y + high).map(move |y| (x, y))) {
            assert!(places.insert(place), "{title} lies on another panel");
        }
        let targets = panel["targets"].as_array().unwrap();
        let names: BTreeSet<&str> = targets
            .iter()
            .map(|t| t["refId"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), targets.len(), "{title}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            asked.extend(
                query
                    .split('$')
                    .skip(1)
                    .map(|rest| rest.split(ends).next().unwrap()),
            );
        }
    }
    assert!(asked.is_subset(&known), "{asked:?} of {known:?}");
}

#[test]
fn prometheus_takes_the_rules_and_every_query_of_the_dashboard() {
    let place = scratch();
    let queries = queries();
    assert!(queries.len() > 12, "{queries:?}");
    let record =
        |(place, query): (usize, &String)| json!({"record": format!("q:{place}"), "expr": query});
    let rules: Vec<Value> = queries.iter().enumerate().map(record).collect();
    let of_dashboard = place.path().join("dashboard.json");
    write(
        &of_dashboard,
        &json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string(),
    );
    for file in [packaged("lbctl.rules.yml"), of_dashboard] {
        let check = [Path::new("check"), Path::new("rules"), &file];
        let said = run("prometheus", &mut promtool(&check), "");
        assert!(said.status.success(), "{}", words(&said));
    }
}
