//! The image against the tools that others read and write it with: isoinfo, xorriso, blkid, 7z,
//! genisoimage; and the reader against damaged and hostile bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use lbctl::testing::seed::iso::{self, File, Image, IsoError, read, read_tag};
use proptest::prelude::*;
use tempfile::TempDir;

const MARK: &str = "lbctl seed v1 vm=lb-1 uuid=2b1c7c0e-8f0f-4f6c-9a5e-6b8a1f0d3c55";

fn write(image: &Image) -> Result<Vec<u8>, IsoError> {
    let (tag, files) = (image.tag.as_deref(), &image.files);
    let written = iso::write(&image.label, tag, files);
    // What is said beforehand is what then happens.
    let beforehand = iso::ensure_writable(&image.label, tag, files);
    assert_eq!(beforehand.err(), written.as_ref().err().cloned());
    written
}

fn image(files: &[(&str, &[u8])]) -> Image {
    let files = files
        .iter()
        .map(|(name, data)| File::new(*name, *data))
        .collect();
    Image {
        label: "cidata".into(),
        tag: Some(MARK.into()),
        files,
    }
}

fn seed() -> Image {
    let user_data: Vec<u8> = b"#cloud-config\n"
        .iter()
        .copied()
        .chain((0..9000).map(|i: u32| (i % 251) as u8))
        .collect();
    image(&[
        ("user-data", &user_data),
        ("meta-data", b"instance-id: lb-1\n"),
        ("network-config", b"version: 2\n"),
        ("client.pem", &[b'x'; 2048]),
        ("vendor-data", b""),
    ])
}

fn contents(image: &Image) -> BTreeMap<String, Vec<u8>> {
    image
        .files
        .iter()
        .map(|file| (file.name.clone(), file.data.clone()))
        .collect()
}

fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                std::fs::read(e.path()).unwrap(),
            )
        })
        .collect()
}

/// Standard output; a test whose tool is missing fails with the package's name.
fn run(command: &[&str]) -> Vec<u8> {
    let package = match command[0] {
        "isoinfo" => "genisoimage",
        "7z" => "p7zip-full",
        "blkid" => "util-linux",
        other => other,
    };
    let output = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}: install the package {package}", command[0]));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}:\n{out}{err}");
    output.stdout
}

fn text(command: &[&str]) -> String {
    String::from_utf8_lossy(&run(command)).into_owned()
}

/// A written image in a directory of its own, with room for what is extracted.
struct Written {
    dir: TempDir,
    iso: String,
}

impl Written {
    fn new(image: &Image) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let iso = dir.path().join("seed.iso").to_str().unwrap().to_owned();
        std::fs::write(&iso, write(image).unwrap()).unwrap();
        Self { dir, iso }
    }

    fn out(&self, name: &str) -> (std::path::PathBuf, String) {
        let path = self.dir.path().join(name);
        let text = path.to_str().unwrap().to_owned();
        (path, text)
    }
}

#[test]
fn isoinfo_reads_both_trees() {
    let image = seed();
    let written = Written::new(&image);
    for tree in ["-R", "-J"] {
        let list = text(&["isoinfo", "-l", tree, "-i", &written.iso]);
        for file in &image.files {
            assert!(
                list.lines()
                    .any(|l| l.ends_with(&format!("] {}", file.name))
                        || l.trim_end().ends_with(&file.name)),
                "{tree}:\n{list}"
            );
            let path = format!("/{}", file.name);
            assert_eq!(
                run(&["isoinfo", tree, "-i", &written.iso, "-x", &path]),
                file.data,
                "{tree} {path}"
            );
        }
    }
    let list = text(&["isoinfo", "-l", "-R", "-i", &written.iso]);
    assert_eq!(
        list.matches("-r--------   1    0    0 ").count(),
        image.files.len(),
        "{list}"
    );
    assert_eq!(
        list.matches("Jan  1 1980").count(),
        image.files.len() + 2,
        "{list}"
    );
    let plain = text(&["isoinfo", "-f", "-i", &written.iso]);
    for name in [
        "/USER_DATA.;1",
        "/META_DATA.;1",
        "/NETWORK_CONFIG.;1",
        "/CLIENT.PEM;1",
    ] {
        assert!(
            plain.lines().any(|l| l == name),
            "{name} is not in\n{plain}"
        );
    }
    let about = text(&["isoinfo", "-d", "-i", &written.iso]);
    for line in [
        "Volume id: cidata",
        "Joliet with UCS level 3 found",
        "Rock Ridge signatures version 1 found",
        "Logical block size is: 2048",
    ] {
        assert!(about.contains(line), "{line} is not in\n{about}");
    }
}

#[test]
fn xorriso_and_7z_extract_every_file() {
    let image = seed();
    let written = Written::new(&image);
    let (path, out) = written.out("xorriso");
    run(&[
        "xorriso",
        "-osirrox",
        "on",
        "-indev",
        &written.iso,
        "-extract",
        "/",
        &out,
    ]);
    assert_eq!(files_in(&path), contents(&image));
    let (path, out) = written.out("7z");
    let said = text(&["7z", "x", "-y", &format!("-o{out}"), &written.iso]);
    assert_eq!(files_in(&path), contents(&image));
    assert!(
        said.contains("Everything is Ok") && !said.contains("Warning"),
        "{said}"
    );
}

#[test]
fn blkid_sees_the_label_and_nothing_else() {
    for tag in [Some(MARK.to_owned()), None] {
        let written = Written::new(&Image { tag, ..seed() });
        let said = text(&["blkid", "-p", "-o", "export", &written.iso]);
        for line in ["LABEL=cidata", "TYPE=iso9660", "USAGE=filesystem"] {
            assert!(said.lines().any(|l| l == line), "{line} is not in\n{said}");
        }
        assert!(!said.contains("PTTYPE"), "{said}");
    }
}

#[test]
fn an_image_has_no_padding() {
    for (image, sectors) in [
        (image(&[]), 25),
        (image(&[("a", b"")]), 25),
        (image(&[("a", b"1")]), 26),
        (seed(), 33),
    ] {
        assert_eq!(write(&image).unwrap().len(), sectors * 2048, "{image:?}");
    }
}

#[test]
fn the_same_files_are_the_same_bytes_in_whatever_order() {
    let image = seed();
    let bytes = write(&image).unwrap();
    let mut turned = image.clone();
    turned.files.reverse();
    assert_eq!(write(&turned).unwrap(), bytes);
    assert_ne!(write(&Image { tag: None, ..image }).unwrap(), bytes);
}

#[test]
fn the_tag_is_read_from_the_first_512_bytes() {
    let bytes = write(&seed()).unwrap();
    assert_eq!(read_tag(&bytes), Some(MARK));
    assert_eq!(read_tag(&bytes[..512]), Some(MARK));
    assert_eq!(
        read_tag(
            &write(&Image {
                tag: None,
                ..seed()
            })
            .unwrap()
        ),
        None
    );
    for tag in ["", "two\nlines", "ended\n", "tab\t", "é", &"m".repeat(512)] {
        assert_eq!(
            write(&Image {
                tag: Some(tag.into()),
                ..seed()
            }),
            Err(IsoError::Tag),
            "{tag:?}"
        );
    }
    let longest = "m".repeat(511);
    assert_eq!(
        read_tag(
            &write(&Image {
                tag: Some(longest.clone()),
                ..seed()
            })
            .unwrap()
        ),
        Some(longest.as_str())
    );
}

#[test]
fn what_no_reader_would_show_as_it_is_is_not_written() {
    assert_eq!(
        write(&image(&[("a/b", b"")])),
        Err(IsoError::Name("a/b".into()))
    );
    assert_eq!(
        write(&image(&[("a", b"1"), ("b", b""), ("a", b"2")])),
        Err(IsoError::Duplicate("a".into()))
    );
    assert_eq!(
        write(&Image {
            label: "a b".into(),
            ..seed()
        }),
        Err(IsoError::Label("a b".into()))
    );
    let many: Vec<File> = (0..257).map(|i| File::new(format!("f{i}"), [])).collect();
    assert_eq!(
        write(&Image {
            files: many,
            ..seed()
        }),
        Err(IsoError::TooMany)
    );
    let big = File::new("big", vec![0; lbctl::testing::seed::iso::IMAGE_MAX]);
    assert_eq!(
        write(&Image {
            files: vec![big],
            ..seed()
        }),
        Err(IsoError::TooBig)
    );
}

#[test]
fn two_hundred_files_with_long_names_survive_every_tool() {
    let files = (0..256)
        .map(|i| {
            File::new(
                format!("{}-{i}.conf", "long".repeat(13)),
                vec![b'y'; i * 17],
            )
        })
        .collect();
    let image = Image { files, ..seed() };
    let written = Written::new(&image);
    assert_eq!(
        contents(&read(&std::fs::read(&written.iso).unwrap()).unwrap()),
        contents(&image)
    );
    let (path, out) = written.out("xorriso");
    run(&[
        "xorriso",
        "-osirrox",
        "on",
        "-indev",
        &written.iso,
        "-extract",
        "/",
        &out,
    ]);
    assert_eq!(files_in(&path), contents(&image));
    let (path, out) = written.out("7z");
    run(&["7z", "x", "-y", &format!("-o{out}"), &written.iso]);
    assert_eq!(files_in(&path), contents(&image));
}

/// Images of other tools: which of them, and with which extensions.
const MAKERS: [&[&str]; 8] = [
    &["genisoimage", "-joliet", "-rock"],
    &["genisoimage", "-rock"],
    &["genisoimage", "-joliet"],
    &["genisoimage"],
    &["xorriso", "-as", "mkisofs", "-J", "-R"],
    &["xorriso", "-as", "mkisofs", "-R"],
    &["xorriso", "-as", "mkisofs", "-J", "--norock"],
    &[
        "xorriso",
        "-as",
        "mkisofs",
        "-iso-level",
        "3",
        "-R",
        "-J",
        "-r",
    ],
];

fn made_by(maker: &[&str], image: &Image) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, iso) = (dir.path().join("files"), dir.path().join("made.iso"));
    std::fs::create_dir(&from).unwrap();
    for file in &image.files {
        std::fs::write(from.join(&file.name), &file.data).unwrap();
    }
    let (from, iso) = (from.to_str().unwrap(), iso.to_str().unwrap());
    run(&[maker, &["-quiet", "-volid", "cidata", "-o", iso, from]].concat());
    std::fs::read(iso).unwrap()
}

#[test]
fn images_of_genisoimage_and_xorriso_are_read() {
    let image = seed();
    for maker in MAKERS {
        let found = read(&made_by(maker, &image)).unwrap_or_else(|e| panic!("{maker:?}: {e}"));
        assert_eq!(
            (found.label.as_str(), found.tag.as_deref()),
            ("cidata", None),
            "{maker:?}"
        );
        let long_names = maker
            .iter()
            .any(|o| ["-joliet", "-rock", "-J", "-R"].contains(o));
        if long_names {
            assert_eq!(contents(&found), contents(&image), "{maker:?}");
        } else {
            let data = |image: &Image| {
                image
                    .files
                    .iter()
                    .map(|f| f.data.clone())
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(data(&found), data(&image), "{maker:?}");
        }
    }
}

#[test]
fn names_in_continuation_areas_are_read_and_links_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("files");
    std::fs::create_dir_all(from.join("directory")).unwrap();
    std::fs::write(from.join("directory/inside"), "no").unwrap();
    std::os::unix::fs::symlink("user-data", from.join("link")).unwrap();
    let long = format!("{}.txt", "n".repeat(230));
    for (name, data) in [("user-data", "yes"), (&long, "long")] {
        std::fs::write(from.join(name), data).unwrap();
    }
    for maker in [&["genisoimage"][..], &["xorriso", "-as", "mkisofs"]] {
        let iso = dir.path().join("made.iso");
        run(&[
            maker,
            &[
                "-quiet",
                "-R",
                "-V",
                "x",
                "-o",
                iso.to_str().unwrap(),
                from.to_str().unwrap(),
            ],
        ]
        .concat());
        let found = read(&std::fs::read(&iso).unwrap()).unwrap();
        let names: Vec<&str> = found.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, [&long, "user-data"], "{maker:?}");
    }
}

#[test]
fn what_is_not_an_image_or_a_cut_one_is_an_error() {
    for bytes in [
        &b""[..],
        b"\0",
        &vec![0; 32768],
        &vec![0; 40960],
        &vec![0xff; 80000],
        b"lbctl seed v1\n",
    ] {
        assert_eq!(read(bytes), Err(IsoError::NotIso));
    }
    let bytes = write(&seed()).unwrap();
    for length in (0..bytes.len()).step_by(101) {
        read(&bytes[..length]).expect_err("a cut image was read");
    }
}

/// Whatever the bytes are, no panic, and never more out than in.
fn survives(bytes: &[u8]) {
    if let Ok(image) = read(bytes) {
        let out: usize = image
            .files
            .iter()
            .map(|f| f.data.len() + f.name.len())
            .sum();
        assert!(out <= bytes.len());
        for file in &image.files {
            assert!(
                !file.name.contains('/') && ![".", "..", ""].contains(&file.name.as_str()),
                "{:?}",
                file.name
            );
        }
    }
    let _ = read_tag(bytes);
}

#[test]
fn every_changed_byte_of_the_structures_is_survived() {
    let ours = write(&seed()).unwrap();
    let theirs = made_by(MAKERS[0], &seed());
    for bytes in [ours, theirs] {
        let mut bytes = bytes;
        let places: Vec<usize> = (16 * 2048..32 * 2048)
            .filter(|at| is_structure(&bytes, *at))
            .collect();
        for at in places {
            let old = bytes[at];
            for new in [0, 0x7f, 0xff, old ^ 1, old ^ 0x80] {
                bytes[at] = new;
                survives(&bytes);
            }
            bytes[at] = old;
        }
    }
}

/// Where something is, in the first bytes of sectors (descriptors, directories and continuation
/// areas are there), and some of the rest.
fn is_structure(bytes: &[u8], at: usize) -> bool {
    at % 2048 < 700 && (!matches!(bytes[at], 0 | b' ') || at.is_multiple_of(61))
}

#[test]
fn many_records_for_one_extent_do_not_multiply_it() {
    let big = vec![b'z'; 100_000];
    let files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|i| {
            (
                format!("f{i:02}"),
                if i == 0 { big.clone() } else { vec![1] },
            )
        })
        .collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(n, d)| (n.as_str(), d.as_slice()))
        .collect();
    let mut bytes = write(&image(&files)).unwrap();
    let first = bytes[23 * 2048..]
        .windows(2)
        .position(|w| w == b"F0")
        .unwrap()
        + 23 * 2048
        - 33;
    let extent = bytes[first + 2..first + 18].to_vec();
    let (mut at, mut turned) = (23 * 2048, 0);
    while turned < 42 {
        match usize::from(bytes[at]) {
            0 => at = at.next_multiple_of(2048),
            length => {
                if turned >= 2 {
                    bytes[at + 2..at + 18].copy_from_slice(&extent);
                }
                turned += 1;
                at += length;
            }
        }
    }
    assert_eq!(read(&bytes), Err(IsoError::TooBig));
}

fn any_files() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let name = "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,30}[a-zA-Z0-9_-]";
    let near_a_sector = prop_oneof![
        Just(0usize),
        Just(1),
        Just(2047),
        Just(2048),
        Just(2049),
        0usize..6000
    ];
    let data = (near_a_sector, any::<u8>()).prop_map(|(length, first)| {
        (0..length)
            .map(|i| first.wrapping_mul(31).wrapping_add(i.to_le_bytes()[0]))
            .collect::<Vec<u8>>()
    });
    prop::collection::btree_map(name, data, 0..40)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(files in any_files(), label in "[A-Za-z0-9_-]{1,16}", tag in prop::option::of("[ -~]{1,511}")) {
        let image = Image { label, tag, files: files.into_iter().map(|(n, d)| File::new(n, d)).collect() };
        let bytes = write(&image).unwrap();
        prop_assert_eq!(bytes.len() % 2048, 0);
        prop_assert_eq!(&bytes, &write(&image).unwrap());
        prop_assert_eq!(read(&bytes).unwrap(), image);
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4096), at in 0usize..40_000) {
        let mut image = write(&seed()).unwrap();
        for (to, from) in image.iter_mut().skip(at).zip(&bytes) {
            *to = *from;
        }
        survives(&image);
        survives(&bytes);
    }

    #[test]
    fn scattered_changes_are_survived(changes in prop::collection::vec((16usize * 2048..26 * 2048, any::<u8>()), 1..40)) {
        let mut image = write(&seed()).unwrap();
        for (at, byte) in changes {
            image[at] = byte;
        }
        survives(&image);
    }
}
