//! A VM as the Terraform module makes it, in memory: its state, its seed, its domain. The documents
//! have what the module's have and lbctl reads; they are not the module's own.

use std::fmt::Write as _;

use lbctl::testing::config::VolumeRef;
use lbctl::testing::host::{CloneSpec, HostEntry, HostWriter as _, NetworkId, Scope};
use lbctl::testing::seed::iso;
use serde_json::{Value, json};

use crate::support::host::{MemoryHost, NETWORK};

pub const CA_KEY: &str = include_str!("../../render/tls/ca.key");
pub const CA_PEM: &str = include_str!("../../render/tls/ca.pem");
pub const CLIENT_PEM: &str = include_str!("../../render/tls/client.pem");
pub const PASSWORD: &str = "mockpass-zq7";
pub const REGISTRY_PASSWORD: &str = "registry-zq7-Jw2:x";
pub const SHARED_KEY: &str = "fluentd-zq7-Gm4";
pub const NAME: &str = "postgres-lb-1";
pub const UUID: &str = "11111111-2222-3333-4444-555555555555";
const SEED_ID: &str =
    "/pools/default/postgres-lb-1-cloud-init.iso;7c0e6f0e-9b5d-4e54-a7f6-0a6b3a5b3c11";
const MAC: &str = "52:54:00:DE:E3:6B";

/// Of the module: what its seed looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Generation {
    /// One cloud-config.
    Single,
    /// A message of several parts.
    Parts,
    /// And a second port, and a container that logs to the journal.
    Journal,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cards {
    Dhcp,
    Static,
    Macvtap,
}

#[derive(Debug, Clone, Copy)]
pub struct Module {
    pub generation: Generation,
    pub cards: Cards,
    /// chrony, fluentd, a registry, and no packages.
    pub is_full: bool,
}

fn indented(text: &str, by: usize) -> String {
    let lines = text.trim_end().lines();
    lines.fold(String::new(), |all, line| {
        format!("{all}{:by$}{line}\n", "")
    })
}

fn file(path: &str, content: &str) -> String {
    format!(
        "- path: {path}\n  permissions: \"0400\"\n  content: |\n{}",
        indented(content, 4)
    )
}

impl Module {
    pub fn new(generation: Generation, cards: Cards) -> Self {
        Self {
            generation,
            cards,
            is_full: false,
        }
    }

    pub fn file_name(self) -> String {
        let Self {
            generation, cards, ..
        } = self;
        format!("{generation:?}-{cards:?}.toml").to_lowercase()
    }

    pub fn haproxy_cfg(self) -> String {
        let backend = |name: &str, nodes: &str, port: u16| {
            format!(
                "backend {name}\n  mode tcp\n  balance roundrobin\n  option httpchk\n  http-check connect port 4443 ssl\n\
                 \x20 http-check send meth OPTIONS uri /master\n  http-check expect status 200\n\
                 \x20 default-server inter 1000ms rise 1 fall 1\n\
                 \x20 server-template {nodes} 3 server.postgres.local:{port} check check-ssl verify required ca-file \
                 /opt/patroni/ca.pem crt /opt/patroni/client.pem resolvers internal_dns init-addr none\n\
                 frontend {name}\n  mode tcp\n  bind *:{port}\n  default_backend {name}\n"
            )
        };
        let mut cfg = "global\n  user www-data\n  group www-data\n  log stdout local0 info\ndefaults\n  mode tcp\n  log global\n\
                       \x20 timeout client 60s\n  timeout server 60s\n  timeout connect 15s\n  timeout check 15s\n\
                       resolvers internal_dns\n  nameserver dns_192.0.2.53 192.0.2.53:53\n  resolve_retries 3\n\
                       \x20 timeout retry 1s\n  hold other 5s\n  hold valid 5s\n"
            .to_owned();
        cfg += &backend("postgres_servers", "postgres_nodes", 5432);
        if self.generation == Generation::Journal {
            cfg += &backend("patroni_servers", "patroni_nodes", 4443);
        }
        cfg
    }

    pub fn user_data(self) -> String {
        let head = "preserve_hostname: false\nhostname: postgres-lb-1\nusers:\n- default\n\
                    - name: node-exporter\n  system: True\n- name: ubuntu\n  ssh_authorized_keys:\n\
                    \x20 - \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMi0W4ICSYVdsAXEEaZrfLBYvtKAgHnOzYCOHvD5LeIo admin\"\n";
        let mut files = file("/opt/patroni/ca.pem", CA_PEM)
            + &file("/opt/patroni/client.pem", CLIENT_PEM)
            + &file("/opt/haproxy/haproxy.cfg", &self.haproxy_cfg());
        let mut service = String::new();
        if self.is_full {
            let login = base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                format!("lbops:{REGISTRY_PASSWORD}"),
            );
            let login = json!({"auths": {"https://registry.example.org": {"auth": login}}});
            files += &file("/opt/docker/config.json", &login.to_string());
            service += &file(
                "/opt/chrony.conf",
                "server ntp1.example.org iburst prefer\npool pool.example.org\ndriftfile /var/lib/chrony/drift\n\
                 makestep 1.5 3\nrtcsync\n",
            );
            service += &file("/opt/fluentd_ca.crt", CA_PEM);
            service += &file(
                "/opt/fluentd.conf",
                &format!(
                    "<source>\n  @type systemd\n  tag lb.node\n  matches [{{ \"_SYSTEMD_UNIT\": \"node-exporter.service\" }}]\n\
                     </source>\n<source>\n  @type forward\n  tag lb.haproxy\n  port 28080\n</source>\n<match *>\n  @type forward\n\
                     \x20 <server>\n    host logs.example.org\n    port 24224\n  </server>\n  <security>\n\
                     \x20   self_hostname postgres-lb-1\n    shared_key {SHARED_KEY}\n  </security>\n</match>\n"
                ),
            );
        }
        let packages = if self.is_full {
            ""
        } else {
            "packages:\n- curl\n- gnupg-agent\n"
        };
        let run = "runcmd:\n- systemctl enable docker\n- docker run -d --restart=always --name=postgres_load_balancer --network=host \
                   -v /opt/haproxy:/usr/local/etc/haproxy:ro haproxy:2.2.14\n";
        if self.generation == Generation::Single {
            return format!(
                "#cloud-config\nchpasswd:\n  list: |\n     ubuntu:{PASSWORD}\n  expire: False\n{head}write_files:\n{files}{service}{packages}{run}"
            );
        }
        let merge = "merge_how:\n - name: list\n   settings: [append, no_replace]\n";
        let chpasswd = format!(
            "chpasswd:\n  expire: false\n  users:\n  - name: ubuntu\n    password: \"{PASSWORD}\"\n    type: text\n"
        );
        let mut parts = vec![
            format!("#cloud-config\n{merge}{chpasswd}{head}"),
            format!("#cloud-config\n{merge}write_files:\n{files}{packages}{run}"),
        ];
        if !service.is_empty() {
            parts.push(format!("#cloud-config\n{merge}write_files:\n{service}"));
        }
        let mut text =
            "Content-Type: multipart/mixed; boundary=\"MIMEBOUNDARY\"\nMIME-Version: 1.0\n\n"
                .to_owned();
        for (number, part) in parts.iter().enumerate() {
            let _ = write!(
                text,
                "--MIMEBOUNDARY\r\nContent-Disposition: attachment; filename=\"{number}.cfg\"\r\nContent-Transfer-Encoding: 7bit\r\n\
                 Content-Type: text/cloud-config\r\nMime-Version: 1.0\r\n\r\n{part}\r\n"
            );
        }
        text + "--MIMEBOUNDARY--\r\n"
    }

    pub fn network_config(self) -> String {
        let ip = match self.cards {
            Cards::Dhcp => return String::new(),
            Cards::Static => "192.168.150.20",
            Cards::Macvtap => "198.51.100.20",
        };
        let gateway = ip.trim_end_matches("20").to_owned() + "1";
        format!(
            "version: 2\nrenderer: networkd\nethernets:\n  eth0:\n    set-name: eth0\n    dhcp4: no\n    match:\n\
             \x20     macaddress: {MAC}\n    addresses:\n      - {ip}/24\n    gateway4: {gateway}\n\
             \x20   nameservers:\n      addresses: [192.0.2.53]\n"
        )
    }

    /// What the provider says of the network interface.
    fn interface(self) -> Value {
        let mut interface = json!({"mac": MAC, "macvtap": "", "bridge": "", "network_id": "", "network_name": "",
            "passthrough": "", "vepa": "", "addresses": [], "hostname": "", "wait_for_lease": false});
        match self.cards {
            Cards::Macvtap => interface["macvtap"] = "lbmac0".into(),
            Cards::Static | Cards::Dhcp => {
                interface["network_id"] = "b10c1bda-f608-4780-9cfb-574c2271a193".into();
                interface["network_name"] = NETWORK.into();
            }
        }
        if self.cards == Cards::Dhcp {
            interface["addresses"] = json!(["192.168.150.20"]);
        }
        interface
    }

    /// The resources as `(module, type, name, attributes)`. `hide` is what the tls provider makes
    /// of a key in other resources.
    pub fn resources(self, module: &str, hide: fn(&str) -> String) -> Vec<Resource> {
        let certificate = CLIENT_PEM
            .split_once("-----END CERTIFICATE-----")
            .unwrap()
            .0;
        let certificate = format!("{certificate}-----END CERTIFICATE-----\n");
        let at = |kind, name, values| Resource {
            module: module.to_owned(),
            kind,
            name,
            index: None,
            values,
            is_tainted: false,
        };
        let outside = |kind, name, values| Resource {
            module: String::new(),
            ..at(kind, name, values)
        };
        let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        vec![
            outside(
                "tls_private_key",
                "admin",
                json!({"algorithm": "ED25519", "private_key_pem": other_key}),
            ),
            Resource {
                module: "module.postgres_ca".into(),
                ..outside(
                    "tls_private_key",
                    "ca",
                    json!({"algorithm": "RSA", "private_key_pem": CA_KEY}),
                )
            },
            Resource {
                module: "module.postgres_ca".into(),
                ..outside(
                    "tls_self_signed_cert",
                    "ca",
                    json!({"cert_pem": CA_PEM, "private_key_pem": hide(CA_KEY), "is_ca_certificate": true}),
                )
            },
            outside(
                "libvirt_volume",
                "postgres_lb_1",
                json!({"id": "/pools/default/postgres-lb-1", "name": NAME, "pool": "default", "size": 2_147_483_648_u64,
                       "format": "qcow2", "base_volume_id": null, "base_volume_name": "base", "base_volume_pool": "os",
                       "source": null}),
            ),
            at(
                "libvirt_cloudinit_disk",
                "postgres_lb_node",
                json!({"id": SEED_ID, "name": "postgres-lb-1-cloud-init.iso", "pool": "default",
                       "user_data": self.user_data(), "meta_data": "", "network_config": self.network_config()}),
            ),
            at(
                "libvirt_domain",
                "postgres_lb_node",
                json!({"id": UUID, "name": NAME, "vcpu": 1, "memory": 512, "machine": "pc", "arch": "x86_64", "type": "kvm",
                       "firmware": "", "cloudinit": SEED_ID, "autostart": true, "qemu_agent": false,
                       "disk": [{"volume_id": "/pools/default/postgres-lb-1", "file": "", "block_device": "", "url": "",
                                 "scsi": false, "wwn": ""}],
                       "network_interface": [self.interface()]}),
            ),
            at(
                "tls_private_key",
                "patroni_client_key",
                json!({"algorithm": "RSA", "rsa_bits": 4096, "private_key_pem": "-----BEGIN RSA PRIVATE KEY-----\n"}),
            ),
            at(
                "tls_cert_request",
                "patroni_client_request",
                json!({"private_key_pem": hide("x"), "cert_request_pem": "-----BEGIN CERTIFICATE REQUEST-----\n"}),
            ),
            at(
                "tls_locally_signed_cert",
                "patroni_client_certificate",
                json!({"cert_pem": certificate, "ca_cert_pem": hide(CA_PEM), "ca_private_key_pem": hide(CA_KEY),
                       "cert_request_pem": hide("x"), "validity_period_hours": 876_000, "early_renewal_hours": 8760}),
            ),
        ]
    }

    /// In a module, by a tls provider of 4.0 or newer.
    pub fn state(self) -> Vec<u8> {
        version_4(&self.resources("module.postgres_lb_1", as_it_is))
    }

    pub fn image(self) -> Vec<u8> {
        let files = [
            iso::File::new("user-data", self.user_data()),
            iso::File::new("meta-data", ""),
            iso::File::new("network-config", self.network_config()),
        ];
        iso::write("cidata", None, &files).unwrap()
    }

    pub fn domain_xml(self) -> String {
        let interface = match self.cards {
            Cards::Macvtap => "<interface type='direct'><source dev='lbmac0' mode='bridge'/>",
            Cards::Dhcp | Cards::Static => "<interface type='network'><source network='lab'/>",
        };
        format!(
            "<domain type='kvm'><name>{NAME}</name><uuid>{UUID}</uuid><memory unit='KiB'>524288</memory>\
             <currentMemory unit='KiB'>524288</currentMemory><vcpu placement='static'>1</vcpu>\
             <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/></os>\
             <features><acpi/><apic/><pae/></features><devices>\
             <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='default' volume='postgres-lb-1'/>\
             <target dev='vda' bus='virtio'/></disk>\
             <disk type='file' device='cdrom'><driver name='qemu' type='raw'/>\
             <source file='/pools/default/postgres-lb-1-cloud-init.iso'/><target dev='hdd' bus='ide'/><readonly/>\
             <serial>cloudinit</serial></disk>\
             {interface}<mac address='52:54:00:de:e3:6b'/><model type='virtio'/></interface>\
             <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
             </devices></domain>"
        )
    }

    pub fn host(self) -> MemoryHost {
        let host = MemoryHost::new();
        let at = |pool: &str, name: &str| VolumeRef {
            pool: pool.into(),
            name: name.into(),
        };
        host.clone_volume(&CloneSpec {
            volume: at("default", NAME),
            base: at("os", "base"),
            capacity: 2 << 30,
            format: "qcow2",
        })
        .unwrap();
        let seed = at("default", "postgres-lb-1-cloud-init.iso");
        host.create_volume(&seed, &self.image()).unwrap();
        if self.cards == Cards::Dhcp {
            let network = NetworkId {
                name: NETWORK.into(),
                uuid: UUID.into(),
            };
            let entry = HostEntry {
                mac: lbctl::testing::config::MacAddr::parse(MAC).ok(),
                ip: "192.168.150.20".parse().unwrap(),
                name: Some(NAME.into()),
            };
            let scope = Scope {
                config: true,
                live: true,
            };
            host.add_reservation(&network, &entry, scope).unwrap();
        }
        host.define(NAME, &self.domain_xml()).unwrap();
        host
    }
}

/// One instance of a resource.
#[derive(Clone)]
pub struct Resource {
    pub module: String,
    pub kind: &'static str,
    pub name: &'static str,
    pub index: Option<Value>,
    pub values: Value,
    pub is_tainted: bool,
}

/// Of the tls provider from 4.0 on.
pub fn as_it_is(pem: &str) -> String {
    pem.to_owned()
}

/// Of the tls provider before 4.0.
pub fn as_sha1(pem: &str) -> String {
    let algorithm = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let sum = aws_lc_rs::digest::digest(algorithm, pem.trim().as_bytes());
    sum.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// As the file of a state, and `terraform state pull`.
pub fn version_4(resources: &[Resource]) -> Vec<u8> {
    let all = resources.iter().map(|resource| {
        let mut instance = json!({"schema_version": 0, "attributes": resource.values, "sensitive_attributes": []});
        if let Some(index) = &resource.index {
            instance["index_key"] = index.clone();
        }
        if resource.is_tainted {
            instance["status"] = "tainted".into();
        }
        let mut shown = json!({"mode": "managed", "type": resource.kind, "name": resource.name,
            "provider": "provider[\"registry.terraform.io/dmacvicar/libvirt\"]", "instances": [instance]});
        if !resource.module.is_empty() {
            shown["module"] = resource.module.as_str().into();
        }
        shown
    });
    json!({"version": 4, "terraform_version": "1.5.7", "serial": 7, "lineage": "x", "outputs": {},
           "resources": all.collect::<Vec<_>>(), "check_results": null})
    .to_string()
    .into_bytes()
}

/// As `terraform show -json`.
pub fn shown(resources: &[Resource]) -> Vec<u8> {
    let of = |module: &str| {
        let own = resources.iter().filter(|r| r.module == module);
        let own = own.map(|r| {
            let mut shown = json!({"address": "unused", "mode": "managed", "type": r.kind, "name": r.name, "values": r.values,
                "sensitive_values": {}});
            if let Some(index) = &r.index {
                shown["index"] = index.clone();
            }
            if r.is_tainted {
                shown["tainted"] = true.into();
            }
            shown
        });
        own.collect::<Vec<_>>()
    };
    let mut modules: Vec<&str> = resources.iter().map(|r| r.module.as_str()).collect();
    modules.retain(|module| !module.is_empty());
    modules.dedup();
    let children: Vec<Value> = modules
        .iter()
        .map(|module| json!({"address": module, "resources": of(module)}))
        .collect();
    json!({"format_version": "1.0", "terraform_version": "1.5.7",
           "values": {"root_module": {"resources": of(""), "child_modules": children}}})
    .to_string()
    .into_bytes()
}
