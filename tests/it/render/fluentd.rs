//! Fluentd's configuration by its structure: sections in sections, as fluentd's own parser sees
//! them. The daemon itself cannot be had from the distribution's packages, so it is not run here.

use lbctl::testing::config::{Config, Runtime};
use lbctl::testing::render::{GuestFile, Owner};

use super::sample::{CA, guest_files, sample_config, tls};

/// `<name argument>` with its content.
#[derive(Debug, Default)]
struct Section {
    head: String,
    lines: Vec<String>,
    sections: Vec<Section>,
}

impl Section {
    fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix("</") {
                let closed = open.pop().unwrap();
                assert_eq!(
                    closed.head.split(' ').next(),
                    name.strip_suffix('>'),
                    "{line}"
                );
                open.last_mut().unwrap().sections.push(closed);
            } else if let Some(head) = line.strip_prefix('<') {
                let head = head.strip_suffix('>').unwrap().to_owned();
                open.push(Self {
                    head,
                    ..Self::default()
                });
            } else {
                open.last_mut().unwrap().lines.push(line.to_owned());
            }
        }
        assert_eq!(open.len(), 1, "a section is not closed");
        open.remove(0)
    }

    fn all(&self, head: &str) -> Vec<&Self> {
        self.sections.iter().filter(|s| s.head == head).collect()
    }

    #[track_caller]
    fn one(&self, head: &str) -> &Self {
        let found = self.all(head);
        assert_eq!(found.len(), 1, "<{head}> in {self:?}");
        found[0]
    }

    #[track_caller]
    fn has(&self, lines: &[&str]) -> &Self {
        for line in lines {
            assert!(self.lines.iter().any(|l| l == line), "{line} in {self:?}");
        }
        self
    }
}

fn file(config: &Config, path: &str) -> GuestFile {
    let mut files = guest_files(config, &tls()).into_iter();
    files.find(|file| file.path == path).unwrap()
}

fn parsed(config: &Config) -> Section {
    Section::parse(file(config, "/etc/fluentd/fluent.conf").content.expose())
}

#[test]
fn haproxy_and_the_node_exporter_are_read_from_the_journal() {
    for (runtime, entries) in [
        (
            Runtime::Package,
            r#"matches [{"_SYSTEMD_UNIT": "haproxy.service"}]"#,
        ),
        (
            Runtime::Container,
            r#"matches [{"CONTAINER_NAME": "haproxy"}, {"_SYSTEMD_UNIT": "haproxy.service"}]"#,
        ),
    ] {
        let mut config = sample_config();
        config.haproxy.runtime = runtime;
        let conf = parsed(&config);
        let sources = conf.all("source");
        assert_eq!(sources.len(), 2);
        let journal = ["@type systemd", "path /var/log/journal"];
        sources[0]
            .has(&journal)
            .has(&["tag \"postgres.lb\"", entries]);
        sources[1].has(&journal).has(&[
            "tag \"postgres.node\"",
            r#"matches [{"_SYSTEMD_UNIT": "prometheus-node-exporter.service"}]"#,
        ]);
        // Where each is in the journal outlives a restart, and not in the other's place.
        let places = sources
            .iter()
            .map(|s| &s.one("storage").has(&["@type local"]).lines);
        let places: Vec<_> = places.collect();
        assert_ne!(places[0], places[1]);
    }
}

#[test]
fn every_tag_is_forwarded_over_tls_to_a_node_that_proves_its_name() {
    let conf = parsed(&sample_config());
    let forward = conf.one("match **").has(&[
        "@type forward",
        "transport tls",
        "tls_cert_path /etc/fluentd/ca.crt",
        "tls_verify_hostname true",
    ]);
    forward.one("security").has(&[
        "self_hostname \"postgres-lb-1\"",
        "shared_key \"fluentd-shared-key\"",
    ]);
    forward
        .one("server")
        .has(&["host \"fluentd.example\"", "port 24224"]);
    // fluentd's own messages are written elsewhere, or it would forward its own errors without end.
    conf.one("label @FLUENT_LOG").one("match **");
    assert_eq!(
        file(&sample_config(), "/etc/fluentd/ca.crt")
            .content
            .expose(),
        CA
    );
}

#[test]
fn the_buffer_is_in_files_unless_one_of_ones_own_is_given() {
    let mut config = sample_config();
    parsed(&config)
        .one("match **")
        .one("buffer")
        .has(&["@type file", "path /var/lib/fluentd/buffer"]);
    config.fluentd.as_mut().unwrap().buffer =
        Some("<buffer tag>\n  @type memory\n</buffer>\n".into());
    let conf = parsed(&config);
    let forward = conf.one("match **");
    forward.one("buffer tag").has(&["@type memory"]);
    assert!(forward.all("buffer").is_empty());
}

#[test]
fn it_runs_as_a_user_of_its_own_who_alone_reads_the_key() {
    let config = sample_config();
    let conf = file(&config, "/etc/fluentd/fluent.conf");
    assert_eq!(
        (conf.mode, conf.owner, conf.secret),
        (0o640, Owner::Fluentd, true)
    );
    let unit = file(&config, "/etc/systemd/system/fluentd.service");
    for line in [
        "User=fluentd",
        "Group=fluentd",
        "SupplementaryGroups=systemd-journal",
        "StateDirectory=fluentd",
        "StateDirectoryMode=0750",
    ] {
        assert!(unit.content.expose().lines().any(|l| l == line), "{line}");
    }
}
