//! A base volume that lbctl makes from an image: of a file, or fetched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lbctl::testing::config::Sha256;

use super::sandbox::Sandbox;
use crate::support::https::{Asked, Https, Says};
use crate::support::{Ran, run};

/// A sandbox with an image beside its configuration, and the image's bytes.
pub fn with_image() -> (Sandbox, Vec<u8>) {
    let mut vm = Sandbox::new();
    // Some megabytes that no format makes smaller.
    let mut state = u64::from(std::process::id()) | 1;
    let content: Vec<u8> = (0..3 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect();
    fs::write(vm.home.path().join("raw"), content).unwrap();
    run(
        "qemu-img",
        [
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            &vm.fill("@home/raw"),
            &vm.fill("@home/image.qcow2"),
        ],
    )
    .ok();
    run(
        "qemu-img",
        [
            "resize",
            "-f",
            "qcow2",
            &vm.fill("@home/image.qcow2"),
            "64M",
        ],
    )
    .ok();
    let image = fs::read(vm.home.path().join("image.qcow2")).unwrap();
    vm.leave_out_of("volume", "base_volume_name");
    vm.leave_out_of("volume", "base_volume_pool");
    (vm, image)
}

pub fn digest(image: &[u8]) -> String {
    Sha256::of(image).to_string()
}

/// The name of the base volume.
fn base(digest: &str) -> String {
    format!("lbctl-{}.qcow2", &digest[..12])
}

fn from_file(vm: &mut Sandbox, digest: &str) {
    vm.change(&format!(
        "[volume]\nbase_image = {{ file = 'image.qcow2', sha256 = '{digest}' }}"
    ));
}

fn from_url(vm: &mut Sandbox, url: &str, digest: &str) {
    vm.change(&format!(
        "[volume]\nbase_image = {{ url = '{url}', sha256 = '{digest}' }}"
    ));
}

/// lbctl with the server's CA, and a cache of the sandbox's own.
fn lbctl(vm: &Sandbox, arguments: &str) -> Ran {
    let mut words = vec![
        vm.fill("SSL_CERT_FILE=@home/https.pem"),
        vm.fill("XDG_CACHE_HOME=@home/cache"),
        "no_proxy=localhost".to_owned(),
        env!("CARGO_BIN_EXE_lbctl").to_owned(),
        "-c".to_owned(),
        vm.fill("@home/lbctl.toml"),
    ];
    words.extend(arguments.split(' ').map(str::to_owned));
    run("env", words).with_words(vm.words())
}

fn cached(vm: &Sandbox) -> Vec<PathBuf> {
    let entries = fs::read_dir(vm.home.path().join("cache/lbctl"));
    let entries = entries.into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_base_volume_from_a_file() {
    let (mut vm, image) = with_image();
    let digest = digest(&image);
    let name = base(&digest);
    from_file(&mut vm, &digest);
    vm.lbctl("plan").ok().says(&[
        &format!("bring image @home/image.qcow2 into volume @pool/{name}"),
        "64 MiB",
    ]);
    vm.lbctl("check --host").says(&[
        &format!("@pool/{name} would be made from image"),
        "its digest is right",
    ]);
    vm.up().says(&[&format!("into volume @pool/{name}")]);
    assert_eq!(fs::read(vm.pool_dir.join(&name)).unwrap(), image);
    vm.virsh(&format!("vol-dumpxml {name} @pool"))
        .ok()
        .says(&["<format type='qcow2'/>", "<mode>0600</mode>"]);
    vm.virsh("vol-dumpxml @vm @pool")
        .ok()
        .says(&[&format!("<path>@dir/{name}</path>")]);
    vm.up().says(&["nothing to do"]);
    // The file is not needed any more, and the volume stays for the next.
    fs::remove_file(vm.home.path().join("image.qcow2")).unwrap();
    vm.up().says(&["nothing to do"]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    assert_eq!(vm.volumes(), [name.as_str()]);
    vm.up().does_not_say(&["bring"]);
    // Another digest is another image, and the disk is a clone of this one.
    from_file(&mut vm, &"0".repeat(64));
    vm.lbctl("plan")
        .ended(4)
        .says(&["base volume", "lbctl-000000000000.qcow2 (replace)"]);
}

#[test]
fn a_file_that_is_no_such_image() {
    let (mut vm, image) = with_image();
    let before = vm.snapshot();
    let right = digest(&image);
    let judge = |vm: &mut Sandbox, content: Option<&[u8]>, digest: &str, words: &[&str]| {
        let path = vm.home.path().join("image.qcow2");
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        from_file(vm, digest);
        vm.lbctl("plan").ended(1).says(words);
        vm.lbctl("up").ended(1).says(words);
        vm.lbctl("check --host").says(words);
    };
    let wrong = "1".repeat(64);
    judge(
        &mut vm,
        Some(&image),
        &wrong,
        &["has the digest", &right, &wrong],
    );
    let cut = &image[..image.len() / 2];
    judge(&mut vm, Some(cut), &right, &["has the digest"]);
    judge(&mut vm, Some(&image[..100_000]), &right, &["is cut short"]);
    judge(&mut vm, Some(b"hello\n"), &right, &["is a text"]);
    judge(
        &mut vm,
        Some(b"\xfd7zXZ\0\0"),
        &right,
        &["compressed by xz", "xz -dk"],
    );
    judge(&mut vm, None, &right, &["No such file"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn what_another_run_left_is_made_whole() {
    let (mut vm, image) = with_image();
    let digest = digest(&image);
    let name = base(&digest);
    from_file(&mut vm, &digest);
    vm.virsh(&format!(
        "vol-create-as @pool {name} {} --format raw",
        image.len()
    ))
    .ok();
    vm.up().says(&["has left it unfinished", "into volume"]);
    assert_eq!(fs::read(vm.pool_dir.join(&name)).unwrap(), image);
}

#[test]
fn a_base_volume_from_the_net() {
    let (mut vm, image) = with_image();
    let digest = digest(&image);
    let whole = image.clone();
    // The address leads to another, and what is there breaks off twice.
    let server = Https::serve(vm.home.path(), move |asked, _| {
        if asked.path.starts_with("/latest") {
            return Says {
                headers: vec!["Location: /image.qcow2?signature=xyz".into()],
                ..Says::status("302 Found")
            };
        }
        let says = Says::part(asked, &whole);
        match asked.range {
            Some((begin, None)) if begin < whole.len() / 2 => says.cut_after(whole.len() / 3),
            _ => says,
        }
    });
    from_url(
        &mut vm,
        &format!("{}/latest?token=abc", server.url),
        &digest,
    );
    lbctl(&vm, "plan")
        .ok()
        .says(&["bring image https://localhost", "/latest into volume"])
        .does_not_say(&["abc", "xyz"]);
    lbctl(&vm, "-v up").ok().does_not_say(&["abc", "xyz"]);
    let name = base(&digest);
    assert_eq!(fs::read(vm.pool_dir.join(&name)).unwrap(), image);
    assert!(cached(&vm).is_empty(), "{:?}", cached(&vm));
    let third = image.len() / 3;
    let begun: Vec<usize> = server
        .asked()
        .iter()
        .filter(|asked| asked.path.starts_with("/image"))
        .filter_map(|asked| asked.range.filter(|range| range.1.is_none()))
        .map(|(begin, _)| begin)
        .collect();
    assert_eq!(begun, [0, third, 2 * third]);
    lbctl(&vm, "up").ok().says(&["nothing to do"]);
}

#[test]
fn what_was_fetched_before_is_continued() {
    let (mut vm, image) = with_image();
    let digest = digest(&image);
    let part = vm.home.path().join("cache/lbctl");
    fs::create_dir_all(&part).unwrap();
    let part = part.join(format!("{digest}.part"));
    fs::write(&part, &image[..1_000_000]).unwrap();
    let whole = image.clone();
    let server = Https::serve(vm.home.path(), move |asked, _| Says::part(asked, &whole));
    from_url(&mut vm, &format!("{}/image", server.url), &digest);
    lbctl(&vm, "up").ok();
    let asked = server.asked();
    let range = Some((1_000_000, None));
    let path = "/image".to_owned();
    assert_eq!(asked.last(), Some(&Asked { path, range }), "{asked:?}");
    assert_eq!(fs::read(vm.pool_dir.join(base(&digest))).unwrap(), image);
}

#[test]
fn what_the_net_has_is_not_believed() {
    let (mut vm, image) = with_image();
    let before = vm.snapshot();
    let right = digest(&image);
    let whole = image.clone();
    let server = Https::serve(vm.home.path(), move |asked, _| match asked.path.as_str() {
        "/page" => Says::page("<!DOCTYPE html><html>"),
        "/image" => Says::part(asked, &whole),
        "/plain" => Says {
            headers: vec!["Location: http://localhost:1/image".into()],
            ..Says::status("302 Found")
        },
        "/round" => Says {
            headers: vec!["Location: /round".into()],
            ..Says::status("302 Found")
        },
        _ => Says::status("404 Not Found"),
    });
    for (path, words) in [
        ("page", "perhaps a page of HTML"),
        ("missing", "the status 404"),
        ("plain", "without TLS"),
        ("round", "from one address to the next"),
    ] {
        from_url(&mut vm, &format!("{}/{path}", server.url), &right);
        lbctl(&vm, "plan").ended(1).says(&[words]);
        lbctl(&vm, "up").ended(1).says(&[words]);
    }
    // The digest is known when it is there.
    let wrong = "2".repeat(64);
    from_url(&mut vm, &format!("{}/image", server.url), &wrong);
    lbctl(&vm, "plan").ok();
    lbctl(&vm, "up")
        .ended(1)
        .says(&["has the digest", &right, &wrong]);
    assert!(cached(&vm).is_empty(), "{:?}", cached(&vm));
    lbctl(&vm, "down --yes").ok();
    before.assert_same(&vm.snapshot());
    // A server whose certificate nobody vouches for.
    fs::write(vm.home.path().join("https.pem"), "").unwrap();
    lbctl(&vm, "plan").ended(1).says(&["SSL_CERT_FILE"]);
    // Nobody there.
    from_url(&mut vm, "https://localhost:1/image", &right);
    lbctl(&vm, "plan").ended(1).says(&["curl -fLO"]);
}

#[test]
fn an_interrupted_fetch_leaves_nothing_half() {
    let (mut vm, image) = with_image();
    let digest = digest(&image);
    let whole = image.clone();
    let server = Https::serve(vm.home.path(), move |asked, _| {
        let says = Says::part(asked, &whole);
        if asked.range.is_some_and(|range| range.1.is_none()) {
            // Long enough for a signal.
            std::thread::sleep(std::time::Duration::from_secs(3));
            return says.cut_after(700_000);
        }
        says
    });
    from_url(&mut vm, &format!("{}/image", server.url), &digest);
    let mut child = Command::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["-c", &vm.fill("@home/lbctl.toml"), "up"])
        .env("SSL_CERT_FILE", vm.fill("@home/https.pem"))
        .env("XDG_CACHE_HOME", vm.fill("@home/cache"))
        .env("no_proxy", "localhost")
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    run("kill", ["-INT", &child.id().to_string()]).ok();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(vm.volumes().iter().all(|name| !name.starts_with("lbctl-")));
    // The next run continues.
    lbctl(&vm, "up").ok();
    assert_eq!(fs::read(vm.pool_dir.join(base(&digest))).unwrap(), image);
}
