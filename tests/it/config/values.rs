//! Single values, each judged by the grammar of the program that will read it.

use lbctl::testing::config;

use crate::support::inputs::{PUBLIC_KEY, inputs, now};

const BASE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/config/minimal/lbctl.toml"
));
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

/// The smallest file with the line of one key at the top level put in the place of its own.
fn with(key: &str, value: &str) -> String {
    let rest = BASE
        .lines()
        .filter(|line| !line.starts_with(&format!("{key} =")))
        .fold(String::new(), |text, line| text + line + "\n");
    format!("{key} = {}\n{rest}", toml::Value::from(value))
}

/// `None`: accepted. Else all that is said.
fn refusal(text: &str) -> Option<String> {
    let parsed = config::parse(text, "lbctl.toml", &inputs(), now());
    parsed.err().map(|report| report.render(false, None))
}

fn assert_refused(text: &str, wanted: &str) {
    let said = refusal(text).unwrap_or_else(|| panic!("accepted:\n{text}"));
    assert!(said.contains(wanted), "{wanted:?} is not in:\n{said}");
}

#[test]
fn ssh_keys_with_options_that_sshd_knows() {
    let lines = [
        "restrict",
        "no-pty,no-X11-forwarding",
        "cert-authority",
        r#"from="192.0.2.0/24,!192.0.2.7""#,
        r#"command="echo \"a b\", c",no-agent-forwarding"#,
        r#"FROM="192.0.2.1",expiry-time="20300101""#,
        r#"environment="A=b",environment="C=d""#,
        r#"principals="a,b",tunnel="0",permitopen="h:1",permitlisten="2""#,
    ];
    for options in lines {
        let text = with("ssh_admin_public_key", &format!("{options} {KEY} me"));
        assert_eq!(refusal(&text), None, "{options}");
    }
}

/// sshd skips such a line without a word, and nobody can log in.
#[test]
fn ssh_keys_behind_what_sshd_does_not_know() {
    let lines = [
        ("-", "no option of sshd"),
        ("1.", "no option of sshd"),
        ("root", "no option of sshd"),
        ("ssh_authorized_keys:", "no option of sshd"),
        ("no-restrict", "no option of sshd"),
        ("from=192.0.2.0/24", "not in double quotes"),
        ("from='192.0.2.0/24'", "not in double quotes"),
        (r#"from="192.0.2.0/24"x"#, "not in double quotes"),
        ("command", "without a value"),
        (r#"pty="yes""#, "takes none"),
        (r#"restrict,,from="192.0.2.1""#, "a comma too many"),
        ("restrict,", "a comma too many"),
        (",restrict", "a comma too many"),
        (
            "a-secret-that-somebody-pasted-here",
            "something before the key",
        ),
    ];
    for (options, wanted) in lines {
        assert_refused(
            &with("ssh_admin_public_key", &format!("{options} {KEY} me")),
            wanted,
        );
    }
}

#[test]
fn ssh_keys_joined_without_a_line_break() {
    for joined in [
        format!("{KEY} bob{KEY} carol"),
        format!("{KEY} {KEY}"),
        format!("{KEY} bob {KEY} carol"),
        format!("{KEY}{KEY}"),
    ] {
        assert_refused(
            &with("ssh_admin_public_key", &joined),
            "two keys on one line",
        );
    }
}

#[test]
fn what_a_comment_says_makes_no_key_a_private_one() {
    let text = with(
        "ssh_admin_public_key",
        &format!("# not the PRIVATE KEY\n{PUBLIC_KEY} of my PRIVATE KEY"),
    );
    assert_eq!(refusal(&text), None);
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    assert_refused(&with("ssh_admin_public_key", private), "a private key");
}

#[test]
fn users_of_the_system_are_no_admins() {
    for user in [
        "root",
        "haproxy",
        "www-data",
        "nobody",
        "_chrony",
        "systemd-network",
        "fluent",
    ] {
        assert_refused(&with("ssh_admin_user", user), "a user of the system");
    }
    for user in ["debian", "ubuntu", "admin", "rooter", "lbadmin"] {
        assert_eq!(refusal(&with("ssh_admin_user", user)), None, "{user}");
    }
}

#[test]
fn names_of_libvirt_can_be_seen_and_written_in_xml() {
    for bad in [
        '\u{2028}', '\u{202e}', '\u{fffe}', '\u{ffff}', '\u{200b}', '\u{ad}', '\u{1b}',
    ] {
        for key in [
            "cloud_init_volume_pool",
            "cloud_init_volume_name",
            "volume_id",
        ] {
            let text = with(key, &format!("po{bad}ol"));
            assert!(refusal(&text).is_some(), "{key} with {bad:?}");
        }
    }
    assert_eq!(
        refusal(&with("cloud_init_volume_pool", "größe (new) & co")),
        None
    );
}

fn with_registry(url: &str) -> String {
    format!(
        "{BASE}\n[container_registry]\nurl = {}\nusername = \"u\"\npassword = \"p\"\n",
        toml::Value::from(url)
    )
}

/// The URL without its protocol begins the image's name: what Docker refuses there.
#[test]
fn registries_make_names_of_images() {
    for url in [
        "https://registry.example.com",
        "https://registry.example.com/",
        "https://registry.example.com:5000/a/b-c/d__e/f.g",
        "https://Registry.example.com/mirror",
        "http://192.0.2.1:5000",
        "https://index.docker.io/v1/",
    ] {
        assert_eq!(refusal(&with_registry(url)), None, "{url}");
    }
    let path = "cannot stand in the name of an image";
    for (url, wanted) in [
        ("https://registry.example.com/MyProject", path),
        ("https://registry.example.com/a?x=1#y", path),
        ("https://registry.example.com//mirror", path),
        ("https://registry.example.com/-bad-/x_", path),
        ("https://registry.example.com/a..b", path),
        ("https://registry.example.com/a___b", path),
        ("https://[fd00::1]:5000", "an IPv6 address"),
    ] {
        assert_refused(&with_registry(url), wanted);
    }
}

#[test]
fn a_carriage_return_ends_a_line_of_a_buffer() {
    let fluentd = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/config/fluentd/lbctl.toml"
    ));
    let base = fluentd.split("[fluentd.buffer]").next().unwrap_or_default();
    let custom = "<buffer>\r</buffer>\r</match>\r<source>\r</source>\r<buffer>\n</buffer>";
    let text = format!(
        "{base}\n[fluentd.buffer]\ncustomized = true\ncustom_value = {}\n",
        toml::Value::from(custom)
    );
    assert_refused(&text, "not one whole <buffer> section");
}

#[test]
fn keys_that_people_look_for() {
    for (line, wanted) in [
        (
            "[haproxy.timeouts]\nclient = \"1h\"",
            "`idle` in [haproxy.timeouts]",
        ),
        (
            "[haproxy.timeouts]\nserver = \"1h\"",
            "`idle` in [haproxy.timeouts]",
        ),
    ] {
        assert_refused(&format!("{BASE}\n{line}\n"), wanted);
    }
    for (name, wanted) in [
        ("maxconn", "`max_connections` in [haproxy]"),
        ("listen_port", "`port` in [haproxy]"),
        ("runcmd", "`cloud_config` in [guest]"),
        ("vip", "`address` in [virtual_ip]"),
        ("autostart", "starts with its host"),
        ("data_volume_id", "there is no second disk"),
        ("server_group", "`libvirt.uri` of each VM"),
        ("fluentbit", "logs go by [fluentd]"),
        ("proxy_env", "`http_proxy` in [guest]"),
        ("disk", "`size` in [volume]"),
        ("ssh_user", "`ssh_admin_user`"),
    ] {
        assert_refused(&with(name, "x"), wanted);
    }
    let said = refusal(&with("timezone", "UTC")).unwrap_or_default();
    assert!(!said.contains("timeouts"), "{said}");
}

/// As Terraform's language has them.
#[test]
fn numbers_that_would_have_to_be_worked_out() {
    for (value, wanted) in [
        ("100*365*24", "write certificate_validity_period = 876000"),
        (
            "100 * 365 * 24 # years",
            "write certificate_validity_period = 876000",
        ),
        ("(100 + 1) * 24", "write the number itself"),
    ] {
        let text = BASE.replace(
            "certificate_validity_period = 8760",
            &format!("certificate_validity_period = {value}"),
        );
        assert_refused(&text, &format!("TOML has no expressions: {wanted}"));
    }
}
