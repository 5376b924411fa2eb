//! The commands of docs/terraform.md, as the page has them, by bash, on a VM as the libvirt
//! provider of Terraform makes it. `terraform` and `ssh` are programs of the test's own. The guest
//! is in its firmware: it hears no power button, and is never ready.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::import::terraform;
use super::sandbox::{Sandbox, Snapshot};
use crate::support::{Ran, run};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/terraform.md");
/// How many blocks of commands each chapter has. A new one is run by a test below.
const CHAPTERS: [(&str, usize); 4] = [
    ("First: import the configuration", 1),
    ("Taking it over, with its disk", 5),
    ("Beside the old one (no gap)", 1),
    ("Under the same name and address (a gap of one boot)", 2),
];

/// `state pull` prints the state, and `state rm` takes everything out of it, if all that it names
/// is there. As the real one, it knows no state where no .tf files are.
const TERRAFORM: &str = r#"#!/bin/bash
set -eu
case $1 in -chdir=*) cd "${1#-chdir=}"; shift ;; esac
[ -e main.tf ] || { echo "no .tf files in $PWD" >&2; exit 1; }
case "$1 $2" in
"state pull") cat @home/state ;;
"state rm")
  for address in "${@:3}"; do
    name=${address##*.}
    grep -q "\"name\":\"${name%%[*}\"" @home/state || { echo "no $address in the state" >&2; exit 1; }
  done
  echo '{"version":4,"terraform_version":"1.5.7","serial":9,"lineage":"x","outputs":{},"resources":[]}' >@home/state ;;
*) exit 2 ;;
esac
"#;

/// The guest's firmware stops at nothing, and there is no terminal to answer at. The nodes are not
/// in this lab, so that `check --host` and `status` end with 1.
const LBCTL: &str = r#"#!/bin/bash
words=() more=() may=0
for word in "$@"; do
  case $word in
  --wait) ;;
  up | adopt) words+=("$word"); more=(--stop-timeout=1s) ;;
  down) words+=("$word"); more=(--yes --stop-timeout=1s) ;;
  import) words+=(--connect "@uri" "$word") ;;
  --host | status) words+=("$word"); may=1 ;;
  *) words+=("$word") ;;
  esac
done
in=()
if [ "${words[*]}" = "check --host" ]; then in=(ip netns exec "@netns"); fi
"${in[@]}" "@program" "${words[@]}" "${more[@]}"
code=$?
[ $code -eq 1 ] && [ $may -eq 1 ] && exit 0
exit $code
"#;

const VIRSH: &str = r#"#!/bin/bash
words=("$@")
if [ "$1" = shutdown ]; then words[0]=destroy; fi
exec /usr/bin/virsh -q -c "@uri" "${words[@]}"
"#;

const SSH: &str = "#!/bin/sh\necho \"$@\" >>@home/ssh.log\n";

/// The blocks of commands of a chapter, in their order.
fn blocks(chapter: &str) -> Vec<String> {
    let page = fs::read_to_string(PAGE).unwrap();
    let (_, rest) = page
        .split_once(&format!("\n### {chapter}\n"))
        .unwrap_or_else(|| panic!("no chapter `{chapter}`"));
    let text = rest.split("\n### ").next().unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == "```sh" {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim_start() != "```")
                .map(str::trim_start)
                .collect();
            found.push(block.join("\n"));
        }
    }
    found
}

struct Walk {
    vm: Sandbox,
}

impl Walk {
    fn begin() -> Self {
        let walk = Self { vm: terraform() };
        walk.vm.write("main.tf", "");
        let bin = walk.vm.home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, text) in [
            ("terraform", TERRAFORM),
            ("lbctl", LBCTL),
            ("virsh", VIRSH),
            ("ssh", SSH),
        ] {
            let text = text
                .replace("@program", env!("CARGO_BIN_EXE_lbctl"))
                .replace("@netns", &walk.vm.lab["LAB_NETNS"]);
            let file = bin.join(name);
            fs::write(&file, walk.vm.fill(&text)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        walk
    }

    fn home(&self) -> &Path {
        self.vm.home.path()
    }

    fn config(&self) -> String {
        fs::read_to_string(self.home().join("lb-1/lbctl.toml")).unwrap()
    }

    fn edit(&self, changes: &[(&str, &str)]) {
        let mut text = self.config();
        for (from, to) in changes {
            let from = self.vm.fill(from);
            assert!(text.contains(&from), "{from}: {text}");
            text = text.replace(&from, &self.vm.fill(to));
        }
        fs::write(self.home().join("lb-1/lbctl.toml"), text).unwrap();
    }

    /// A block of the page, with the names of this lab for those of the page.
    fn types(&self, block: &str) -> Ran {
        let names = [
            ("postgres-lb-1", "@vm"),
            ("192.168.122.162", "@ip"),
            ("net-dumpxml default", "net-dumpxml @net"),
            ("--pool default", "--pool @pool"),
        ];
        let put = |text: String, (from, to): (&str, &str)| text.replace(from, to);
        let commands = self.vm.fill(&names.into_iter().fold(block.to_owned(), put));
        let lb = self.home().join("lb-1");
        let place = if lb.exists() { &lb } else { self.home() };
        let script = format!(
            "set -eu -o pipefail\nexport PATH={}/bin:$PATH\ncd {}\n{commands}\n",
            self.home().display(),
            place.display()
        );
        run("bash", ["-c", &script]).with_words(self.vm.words())
    }

    /// Imports, and does with Terraform what the import says.
    fn imported() -> Self {
        let walk = Self::begin();
        let import = &blocks(CHAPTERS[0].0)[0];
        let ran = walk.types(import).ok();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let remove = said
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with("terraform state rm "))
            .unwrap_or_else(|| panic!("no command for Terraform: {ran}"));
        fs::write(walk.home().join("remove"), remove).unwrap();
        walk
    }

    fn leaves_terraform(&self) {
        let remove = fs::read_to_string(self.home().join("remove")).unwrap();
        // Where the .tf files are.
        self.types(&format!("cd ..\n{remove}")).ok();
    }

    fn snapshot(&self) -> Snapshot {
        self.vm.snapshot().without_live()
    }
}

#[test]
fn every_block_of_commands_has_its_test() {
    for (chapter, count) in CHAPTERS {
        assert_eq!(blocks(chapter).len(), count, "{chapter}");
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let counted: usize = CHAPTERS.iter().map(|(_, count)| count).sum();
    let all = page.lines().filter(|line| line.trim_start() == "```sh");
    assert_eq!(all.count(), counted, "a block stands in no chapter above");
}

#[test]
fn taking_it_over_and_the_way_back() {
    let walk = Walk::imported();
    let [ssh, plan, adopt, back, inside] = &blocks(CHAPTERS[1].0)[..] else {
        panic!("five blocks")
    };
    let before = walk.snapshot();
    walk.types(ssh).ok();
    let asked = fs::read_to_string(walk.home().join("ssh.log")).unwrap();
    assert!(asked.contains("apt-get install -y qemu-guest-agent"));
    walk.types(plan).ok().says(&["`lbctl adopt --restart now`"]);
    walk.types(adopt)
        .ended(4)
        .says(&["the state still has domain @vm"]);
    before.assert_same(&walk.snapshot());
    walk.leaves_terraform();
    walk.types(adopt).ok();
    walk.types("lbctl plan --exit-code").ok();

    walk.types(back).ok();
    // What lbctl wrote is its seed.
    walk.types("virsh vol-delete postgres-lb-1-cloud-init.2.iso --pool default")
        .ok();
    before.assert_same(&walk.snapshot());
    // In the guest.
    assert!(inside.lines().all(|line| line.starts_with("sudo ")));
    for unit in ["lbctl-liveness", "lbctl-save-state.timer"] {
        assert!(inside.contains(unit), "{inside}");
    }
}

#[test]
fn beside_the_old_one() {
    let walk = Walk::imported();
    let before = walk.snapshot();
    walk.edit(&[
        ("name = \"@vm\"", "name = \"@other\""),
        ("ip = \"@ip\"", "ip = \"@ip2\""),
        ("mac = \"@mac\"\n", ""),
    ]);
    walk.types(&blocks(CHAPTERS[2].0)[0]).ok();
    walk.types("lbctl plan --exit-code").ok();
    walk.types("lbctl down --delete-volume").ok();
    before.assert_same(&walk.snapshot());
}

#[test]
fn under_the_same_name_and_back() {
    let walk = Walk::imported();
    let [away, back] = &blocks(CHAPTERS[3].0)[..] else {
        panic!("two blocks")
    };
    walk.edit(&[
        ("[volume]\nname = \"@vm\"", "[volume]\nname = \"@vm-root\""),
        (
            "cloud_init_volume_pool",
            "cloud_init_volume_name = \"@vm-new.iso\"\ncloud_init_volume_pool",
        ),
    ]);
    let before = walk.snapshot();
    walk.types(away).ok().says(&["shut off"]);
    let saved = fs::read_to_string(walk.home().join("lb-1/old-network.xml")).unwrap();
    assert!(saved.contains(&walk.vm.fill("ip='@ip'")), "{saved}");
    walk.types("lbctl up --wait").ok().says(&["@ip"]);
    walk.types("lbctl plan --exit-code").ok();

    walk.types(back).ok();
    walk.types("virsh vol-delete postgres-lb-1-root --pool default")
        .ok();
    before.assert_same(&walk.snapshot());
}
