//! The script of the vendor-data, run as cloud-init runs it: what it puts in place, when, and
//! whether it has the load balancer start.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use lbctl::testing::config::Config;
use lbctl::testing::render::GuestFile;

use super::documents::{least, seed};
use super::oracle::{must, scratch, write};
use super::sample::{guest_files, sample_config, tls};

/// The script of the vendor-data, as cloud-init runs it, in a folder in the place of the guest's
/// root, where systemd-run writes down what it is given.
struct Boothook {
    dir: tempfile::TempDir,
    files: Vec<GuestFile>,
}

impl Boothook {
    fn of(config: &Config) -> Self {
        let dir = scratch();
        let root = dir.path().display();
        let script = seed(config).vendor_data;
        let script = ["/usr/local/", "/var/lib/", "/etc/"]
            .iter()
            .fold(script, |script, place| {
                script.replace(place, &format!("{root}{place}"))
            });
        let hook = dir.path().join("part-001");
        write(&hook, script.strip_prefix("#cloud-boothook\n").unwrap());
        let runner = dir.path().join("systemd-run");
        write(
            &runner,
            &format!("#!/bin/sh\necho \"$@\" >>{root}/started\nexit ${{REFUSED:-0}}\n"),
        );
        for program in [hook, runner] {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let fixed = |file: &GuestFile| {
            [
                "/usr/local/lib/lbctl/",
                "/etc/systemd/system/lbctl-l",
                "/etc/haproxy/lbctl.lua",
            ]
            .iter()
            .any(|start| file.path.starts_with(start))
        };
        let files: Vec<GuestFile> = guest_files(config, &tls())
            .into_iter()
            .filter(fixed)
            .collect();
        assert!(files.len() > 20);
        Self { dir, files }
    }

    fn boot(&self, instance: &str, refused: &str) {
        let said = must(
            "sh",
            Command::new(self.dir.path().join("part-001"))
                .env("INSTANCE_ID", instance)
                .env("REFUSED", refused)
                .env(
                    "PATH",
                    format!("{}:/usr/bin:/bin", self.dir.path().display()),
                ),
            "",
        );
        assert_eq!(said, "");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.strip_prefix('/').unwrap())
    }

    fn ensure_there(&self) {
        let root = self.dir.path().display().to_string();
        for file in &self.files {
            // The root is in a file where a path of the guest is.
            let there = std::fs::read_to_string(self.at(&file.path)).unwrap();
            let there = there.replace(&root, "");
            assert!(there == file.content.expose(), "{}", file.path);
            let mode = self.at(&file.path).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, file.mode, "{}", file.path);
        }
    }

    /// What systemd-run was given, each time.
    fn started(&self) -> Vec<String> {
        let root = self.dir.path().display().to_string();
        let text = std::fs::read_to_string(self.dir.path().join("started")).unwrap_or_default();
        text.lines().map(|line| line.replace(&root, "")).collect()
    }
}

#[test]
fn the_boothook_puts_what_is_fixed_in_place_once_for_each_instance() {
    let hook = Boothook::of(&sample_config());
    let program = hook.at("/usr/local/lib/lbctl/lbctl_guest/tools.py");
    hook.boot("lb-1", "");
    hook.ensure_there();
    // What a live change has put there stays at the next boot,
    write(&program, "newer\n");
    hook.boot("lb-1", "");
    assert_eq!(std::fs::read_to_string(&program).unwrap(), "newer\n");
    // until the seed is another one, or the first time was cut off.
    hook.boot("lb-2", "");
    hook.ensure_there();
    write(&program, "cut off");
    write(&hook.at("/var/lib/lbctl/programs-of"), "");
    hook.boot("lb-2", "");
    hook.ensure_there();
    // cloud-init's last stages install what the load balancer needs.
    assert_eq!(hook.started(), [""; 0]);
}

#[test]
fn the_load_balancer_starts_beside_the_last_stages_where_these_do_nothing_for_it() {
    let hook = Boothook::of(&least());
    let wants = hook.at("/etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    for (instance, refused, part_of_each_boot) in [
        ("lb-1", "", None),
        ("lb-1", "", None),
        // Refused, the boot goes on, and cloud-init's last stage starts it. The link may lead
        // nowhere until cloud-init has written the unit.
        ("lb-2", "1", Some("haproxy.service")),
        ("lb-3", "", Some("chrony.service")),
    ] {
        if let Some(unit) = part_of_each_boot {
            std::os::unix::fs::symlink("/nowhere", wants.join(unit)).unwrap();
        }
        hook.boot(instance, refused);
        hook.ensure_there();
    }
    let start = |also: &str| {
        format!(
            "--quiet --collect --no-block --unit=lbctl-early \
             --property=After=cloud-init.service cloud-init-network.service{also} \
             /usr/local/lib/lbctl/lbctl-guest early"
        )
    };
    let services = ["", " haproxy.service", " haproxy.service chrony.service"];
    assert_eq!(hook.started(), services.map(start));
    // Each of these is set up by a later stage.
    let mut installs = least();
    installs.install_dependencies = true;
    let mut has_a_timezone = least();
    has_a_timezone.first_boot.timezone = Some("Europe/Zurich".into());
    for config in [installs, has_a_timezone] {
        let hook = Boothook::of(&config);
        hook.boot("lb-1", "");
        assert_eq!(hook.started(), [""; 0]);
    }
}
