//! The forms of texts, as regular expressions for the JSON Schema: which texts may be right, as far
//! as that shows in a text alone. Each stands for the check that its doc names; it takes all that
//! the check takes, and what else it takes is for the check to refuse (an address that no host can
//! have, a user of the system). A key declares the form with its kind and bounds; the readers
//! assert that each text with a check has one.
//!
//! What the expressions use is the same in ECMA-262, Python and Rust: no look-behind, no flags.
//! They stand within `^(?:` and `)$`.

macro_rules! octet {
    () => {
        "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}
macro_rules! ipv4 {
    () => {
        concat!("(?:", octet!(), "\\.){3}", octet!())
    };
}
macro_rules! ipv6 {
    () => {
        "[0-9a-fA-F:]*:[0-9a-fA-F:]*(?:[0-9]+\\.[0-9.]+)?"
    };
}
macro_rules! ip {
    () => {
        concat!("(?:", ipv4!(), "|", ipv6!(), ")")
    };
}
macro_rules! label {
    () => {
        "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    };
}
macro_rules! domain {
    () => {
        concat!(
            "(?=.{1,254}$)(?!(?:.*\\.)?[0-9]+\\.?$)",
            label!(),
            "(?:\\.",
            label!(),
            ")*\\.?"
        )
    };
}
macro_rules! in_haproxy {
    ($rest:literal) => {
        concat!("[A-Za-z0-9][A-Za-z0-9._-]{0,", $rest, "}")
    };
}

/// `types::Name`.
pub const NAME: &str = "(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
/// `types::MacAddr`.
pub const MAC: &str = "(?!00(?::00){5}$)[0-9a-fA-F][02468aceACE](?::[0-9a-fA-F]{2}){5}";
/// `types::DomainName`.
pub const DOMAIN: &str = domain!();
/// `types::IpNetwork`.
pub const NETWORK: &str = concat!(
    "(?:",
    ipv4!(),
    "(?:/0*(?:3[0-2]|[12]?[0-9]))?|",
    ipv6!(),
    "(?:/0*(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)"
);
/// `types::InterfaceAddress`.
pub const INTERFACE_ADDRESS: &str = concat!(
    "(?:",
    ipv4!(),
    "/0*(?:3[0-2]|[12][0-9]|[1-9])|",
    ipv6!(),
    "/0*(?:12[0-8]|1[01][0-9]|[1-9][0-9]?))"
);
/// `types::Sha256`.
pub const SHA256: &str = "(?:sha256:)?[0-9a-fA-F]{64}";
/// `types::ImageUrl`.
pub const IMAGE_URL: &str = "https://[^/?#\\s@]+(?:[/?#]\\S*)?";
/// `types::HaproxyVersion`.
pub const VERSION: &str =
    "0*(?:2\\.0*(?:[4-9]|[1-9][0-9]{1,2})|(?:[3-9]|[1-9][0-9]{1,2})\\.[0-9]+)";
/// `checks::one_line`.
pub const LINE: &str = "[^\\x00-\\x1f\\x7f]*";
/// `checks::one_word`.
pub const WORD: &str = "[^\\s\\x00-\\x1f\\x7f]*";
/// `checks::libvirt_name`.
pub const LIBVIRT_NAME: &str = "(?!\\.{1,2}$)(?!FILL IN$)[^/\\s\\x00-\\x1f\\x7f](?:[^/\\x00-\\x1f\\x7f]{0,248}[^/\\s\\x00-\\x1f\\x7f])?";
/// `checks::uuid`.
pub const UUID: &str = "(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32})";
/// `checks::path`.
pub const PATH: &str = "(?!~/)[^\\x00-\\x1f\\x7f]*";
/// `checks::device`.
pub const DEVICE: &str = "(?!\\.{1,2}$)[^/:\\s\\x00-\\x1f\\x7f]{1,15}";
/// `checks::host_address`.
pub const HOST_ADDRESS: &str = concat!("(?!(?:0|127|22[4-9]|2[3-5][0-9])\\.)", ipv4!());
/// `checks::router`, `checks::server_address`, `checks::listen_address`.
pub const IP: &str = ip!();
/// `checks::own_address`.
pub const OWN_ADDRESS: &str = concat!("(?!127\\.|::1$)", ip!());
/// `checks::host`.
pub const HOST: &str = concat!("(?:", ip!(), "|", domain!(), ")");
/// `checks::node_address`.
pub const NODE_ADDRESS: &str = concat!(
    "(?!127\\.|0\\.0\\.0\\.0$|::1?$)(?:",
    ip!(),
    "|",
    domain!(),
    ")"
);
/// `checks::user`.
pub const USER: &str = "[a-z][a-z0-9_-]{0,31}";
/// `checks::image`.
pub const IMAGE: &str = "(?!.*:[^/]*$)(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?(?:[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*";
/// `checks::digest`.
pub const DIGEST: &str = "sha256:[0-9a-fA-F]{64}";
/// `checks::plain_url`.
pub const PLAIN_URL: &str = "https?://[A-Za-z0-9._~:/\\[\\]-]+";
/// `checks::registry_url`.
pub const REGISTRY_URL: &str = "https?://[^\\s@]+";
/// `checks::connection_uri`.
pub const CONNECTION_URI: &str = "(?:qemu|test)(?:\\+[^:\\s]*)?://(?![^/]*:[^/]*@)\\S*";
/// `checks::machine`.
pub const MACHINE: &str = "[A-Za-z0-9._-]{1,64}";
/// `checks::server_name`.
pub const SERVER_NAME: &str = concat!("(?!later|(?:FRONTEND|BACKEND)$)", in_haproxy!("62"));
/// `checks::service_name`.
pub const SERVICE_NAME: &str = concat!(
    "(?!(?:postgres|patroni|replicas|metrics|primary|standbys|rest|GLOBAL|MASTER)$)",
    in_haproxy!("39")
);
/// `checks::lag`.
pub const LAG: &str = "[0-9]{1,15}(?:B|kB|MB|GB|TB)?";
/// `checks::fluentd_tag`.
pub const FLUENTD_TAG: &str = "(?=.{1,200}$)[A-Za-z0-9_-]+(?:\\.[A-Za-z0-9_-]+)*";
/// `checks::buffer`.
pub const BUFFER: &str = "\\s*<buffer[ >][\\s\\S]*</buffer>\\s*";
/// `guest::timezone`.
pub const TIMEZONE: &str = "(?=.{1,64}$)[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*";
/// `services::options`.
pub const CHRONY_OPTIONS: &str = "[A-Za-z0-9 ._+-]*";
