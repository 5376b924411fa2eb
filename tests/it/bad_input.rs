//! What fuzzers found, and what they began with: every file of the corpus is run through its
//! target, without a fuzzer.

use std::fs;
use std::path::Path;

use lbctl::testing::seed::iso;

#[path = "../../fuzz/src/targets.rs"]
mod targets;

#[test]
fn every_file_of_the_corpus_is_run_through_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut folders: Vec<String> = names(&corpus);
    folders.retain(|name| name != "haproxy"); // answers for the guest's own program
    let mut wanted = targets::ALL.map(|(name, _)| name.to_owned());
    wanted.sort();
    assert_eq!(folders, wanted, "a folder of the corpus for each target");
    for (name, target) in targets::ALL {
        let files = names(&corpus.join(name));
        assert!(files.len() >= 3, "{name} has {} files", files.len());
        for file in files {
            let data = fs::read(corpus.join(name).join(&file)).unwrap();
            let ran = std::panic::catch_unwind(|| target(&data));
            assert!(ran.is_ok(), "fuzz/corpus/{name}/{file}");
        }
    }
}

/// A seed target that never saw a sound image would find nothing.
#[test]
fn an_image_is_folded_and_unfolded() {
    let files = [iso::File::new("meta-data", "instance-id: x\n")];
    let bytes = iso::write("cidata", Some("lbctl seed v1 vm=lb-1"), &files).unwrap();
    let folded = targets::folded(&bytes);
    assert!(folded.len() < bytes.len() / 4, "{} bytes", folded.len());
    assert_eq!(targets::unfolded(&folded), bytes);
    targets::seed(&folded);
}

/// The programs in the guest read HAProxy.s answers, in which the nodes have a say.
#[test]
fn no_node_can_make_haproxys_answers_say_another_thing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/haproxy.py");
    let ran = std::process::Command::new("python3")
        .arg(script)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && said.contains("none was misread"),
        "{said}{wrong}"
    );
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
