//! One whole configuration to start from, built as values: what is tested here is what becomes of it, not how it is read.

use lbctl::testing::cert::{Ca, KeyAlgorithm};
use lbctl::testing::config::{
    Addressing, Admin, Check, Chrony, Config, ContainerRegistry, Disk, DomainName, DomainType,
    Fluentd, FluentdForward, Haproxy, HaproxyTime, HaproxyVersion, Interface, Libvirt, MacAddr,
    MakeStep, Metrics, Name, NetworkRef, NicSource, PatroniClient, Replicas, Runtime, TimeSource,
    Timeouts, VolumeRef,
};
use lbctl::testing::render::{self, CheckTls, GuestFile, GuestSpec, SeedFiles};
use lbctl::testing::secret::Secret;

pub const CA: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/ca.pem"
));
const CA_KEY: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/ca.key"
));
pub const CLIENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/render/tls/client.pem"
));

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

pub fn time(text: &str) -> HaproxyTime {
    HaproxyTime::parse(text).unwrap()
}

pub fn tls() -> CheckTls {
    CheckTls {
        client_pem: Secret::new(CLIENT),
        ca_pem: CA.to_owned(),
    }
}

/// Everything is switched on.
pub fn sample_config() -> Config {
    Config {
        name: name("postgres-lb-1"),
        vcpus: 1,
        memory: 4096,
        disk: Disk::Existing {
            id: "default/postgres-lb-1".into(),
        },
        interfaces: vec![dhcp(), fixed()],
        seed_volume: VolumeRef {
            pool: "default".into(),
            name: "postgres-lb-1-cloud-init.iso".into(),
        },
        admin: Admin {
            user: "ubuntu".into(),
            password: Some(Secret::new("mockpass")),
            public_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvr me@example".into()],
        },
        haproxy: haproxy(),
        chrony: Some(chrony()),
        fluentd: Some(fluentd()),
        node_exporter: true,
        container_registry: Some(ContainerRegistry {
            url: "https://registry.example:5000".into(),
            username: "lb".into(),
            password: Secret::new("registry-password"),
            ca_certificate: Some(CA.to_owned()),
        }),
        install_dependencies: true,
        libvirt: Libvirt {
            uri: None,
            domain_type: DomainType::Auto,
            machine: None,
        },
    }
}

fn dhcp() -> Interface {
    Interface {
        mac: MacAddr([0x52, 0x54, 0x00, 0xde, 0xe3, 0x6b]),
        mac_derived: false,
        ip: [192, 168, 122, 162].into(),
        source: NicSource::Network(NetworkRef::Name("default".into())),
        addressing: Addressing::DhcpReservation,
    }
}

fn fixed() -> Interface {
    Interface {
        mac: MacAddr([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]),
        mac_derived: true,
        ip: [10, 0, 0, 2].into(),
        source: NicSource::Macvtap {
            device: "eth1".into(),
        },
        addressing: Addressing::Static {
            prefix_length: 24,
            gateway: Some([10, 0, 0, 1].into()),
            dns_servers: vec![[10, 0, 0, 1].into(), "fd00::53".parse().unwrap()],
        },
    }
}

fn haproxy() -> Haproxy {
    Haproxy {
        postgres_nodes_max_count: 3,
        postgres_nameserver_ips: vec![[192, 168, 122, 161].into(), "2001:db8::53".parse().unwrap()],
        postgres_domain: domain("server.postgres.local"),
        patroni_client: PatroniClient {
            ca: Ca::load(&Secret::new(CA_KEY), CA).unwrap(),
            validity: 876_000,
            early_renewal: 8760,
            key_algorithm: KeyAlgorithm::EcdsaP256,
        },
        timeouts: Timeouts {
            connect: time("2s"),
            check: time("2s"),
            idle: time("24h"),
        },
        runtime: Runtime::Container,
        version: HaproxyVersion { major: 3, minor: 2 },
        image: "haproxy".into(),
        image_digest: None,
        verify_host: Some(domain("server.postgres.local")),
        max_connections: 2000,
        metrics: Some(Metrics {
            address: [0, 0, 0, 0].into(),
            port: 8405,
        }),
        replicas: Some(Replicas {
            port: 5433,
            max_lag: Some("16MB".into()),
        }),
        patroni_port: 4443,
        check: Check {
            interval: time("500ms"),
            fast: time("200ms"),
            down: time("250ms"),
            rise: 1,
            fall: 2,
        },
        hard_stop_after: time("1h"),
    }
}

fn chrony() -> Chrony {
    let source = |url: &str, options: &[&str]| TimeSource {
        url: url.into(),
        options: options.iter().map(|&o| o.into()).collect(),
    };
    Chrony {
        servers: vec![source("ntp.example", &["iburst", "minpoll 4"])],
        pools: vec![source("pool.example", &[])],
        makestep: Some(MakeStep {
            threshold: 0.5,
            limit: -1,
        }),
    }
}

fn fluentd() -> Fluentd {
    Fluentd {
        load_balancer_tag: "postgres.lb".into(),
        node_exporter_tag: "postgres.node".into(),
        forward: FluentdForward {
            domain: "fluentd.example".into(),
            port: 24224,
            hostname: "postgres-lb-1".into(),
            shared_key: Secret::new("fluentd-shared-key"),
            ca_cert: CA.to_owned(),
        },
        buffer: None,
    }
}

/// The seed's files, as `Seed::build` makes them.
pub fn seed_files(config: &Config, tls: &CheckTls) -> SeedFiles {
    render::seed_files(
        &GuestSpec::from_config(config, tls),
        render::network_config(config),
    )
}

/// As they may be shown.
pub fn masked(config: &Config, tls: &CheckTls) -> SeedFiles {
    render::seed_files(
        &GuestSpec::masked(config, tls),
        render::network_config(config),
    )
}

pub fn guest_files(config: &Config, tls: &CheckTls) -> Vec<GuestFile> {
    GuestSpec::from_config(config, tls).files
}
