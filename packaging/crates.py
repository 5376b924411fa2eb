#!/usr/bin/python3
"""What lbctl is linked from, told twice: as Debian's copyright file, and as a bill of materials (CycloneDX).

crates.py copyright
crates.py sbom BINARY

Both go to standard output. Everything comes from Cargo.lock, `cargo tree` and `cargo metadata`, and from the crates' own
licence files; the time is SOURCE_DATE_EPOCH, so the same source gives the same bytes.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# Where a crate offers several licences, the first of these is the one that it is passed on under. A licence that is not
# here stops the build: its text would be missing.
PREFERRED = ["Apache-2.0", "MIT", "ISC", "BSD-3-Clause", "Zlib", "bzip2-1.0.6", "LGPL-2.1"]
# The MIT licence has another name in Debian's copyright format.
DEBIAN_NAMES = {"MIT": "Expat"}


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def tree(edges):
    """The (name, version) pairs that cargo itself says belong to the build."""
    lines = output("cargo", "tree", "--locked", "--prefix=none", "--format={p}", f"--edges={edges}").splitlines()
    words = (line.split() for line in lines if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


class Crates:
    """The crates of the build, without lbctl itself."""

    def __init__(self):
        self.metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version=1"))
        lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
        self.checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
        self.lbctl = next(p for p in self.metadata["packages"] if p["id"] == self.metadata["resolve"]["root"])
        self.linked = self._packages(tree("normal,no-proc-macro"))
        used = self._packages(tree("normal,build"))
        self.tools = [p for p in used if p not in self.linked]

    def _packages(self, keys):
        found = [p for p in self.metadata["packages"] if (p["name"], p["version"]) in keys and p is not self.lbctl]
        missing = keys - {(p["name"], p["version"]) for p in found} - {(self.lbctl["name"], self.lbctl["version"])}
        if missing:
            sys.exit(f"cargo metadata does not know {sorted(missing)}, which cargo tree shows")
        return sorted(found, key=lambda p: (p["name"], p["version"]))


def expression(package):
    """The licence as SPDX has it: old crates write a slash for OR."""
    if not package["license"]:
        sys.exit(f"{package['name']} {package['version']} names no licence")
    return package["license"].replace("/", " OR ")


def chosen(text):
    """The licences, all of which hold, of an SPDX expression whose alternatives are decided by PREFERRED."""
    words = re.findall(r"\(|\)|[^\s()]+", text)

    def rank(licences):
        return max(PREFERRED.index(one) if one in PREFERRED else len(PREFERRED) for one in licences)

    def alternatives():
        options = [all_of()]
        while words and words[0] == "OR":
            words.pop(0)
            options.append(all_of())
        return min(options, key=rank)

    def all_of():
        licences = single()
        while words and words[0] == "AND":
            words.pop(0)
            licences = licences | single()
        return licences

    def single():
        word = words.pop(0)
        if word == "(":
            inner = alternatives()
            words.pop(0)
            return inner
        if words and words[0] == "WITH":
            words.pop(0)
            word += f" WITH {words.pop(0)}"
        return frozenset([word])

    return sorted(alternatives(), key=order)


def order(licence):
    if licence not in PREFERRED:
        sys.exit(f"packaging/crates.py: the licence {licence} is new here: add it to PREFERRED, and its text to "
                 "packaging/licences")
    return PREFERRED.index(licence)


def holders(package):
    """The copyright lines of the crate's own files; else its authors; else those who made it, whoever they are."""
    directory = pathlib.Path(package["manifest_path"]).parent
    wanted = re.compile(r"licen[cs]e|copying|copyright|notice", re.IGNORECASE)
    lines = []
    for path in sorted(p for p in directory.iterdir() if p.is_file() and wanted.match(p.name)):
        for line in path.read_text(errors="replace").splitlines():
            found = re.match(r"[\s/*#-]*(?:Portions )?Copyright\s+(.*\S)", line)
            # The licences' own texts speak of copyright too.
            if found and re.search(r"\d{4}|\(c\)|©|^The |Inc\.", found[1]) and "[yyyy]" not in found[1]:
                lines.append(re.sub(r"^(\(c\)|\(C\)|©)\s*|\s*All rights reserved\.?$", "", found[1], flags=re.IGNORECASE))
    named = [re.sub(r"\s*<.*>", "", author) for author in package["authors"]]
    return list(dict.fromkeys(lines)) or named or [f"the authors of {package['name']}"]


def debian(licences):
    return " and ".join(DEBIAN_NAMES.get(one, one) for one in licences)


def stanza(**fields):
    return "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in fields.items()) + "\n"


def copyright_file(crates):
    def folded(lines):
        return "\n           ".join(lines)

    comment = [
        "lbctl is one program, linked from the crates below and from Rust's standard library.",
        "Where a crate may be used under several licences, the one that it is passed on under",
        "stands here. virt and virt-sys, the bindings of libvirt, are under the LGPL: with this",
        "package's source, Cargo.lock and `cargo build` lbctl can be linked again with changed ones.",
        "libvirt itself is linked dynamically.",
    ]
    text = stanza(
        Format="https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        Upstream_Name="lbctl",
        Comment=comment[0] + "".join(f"\n {line}" for line in comment[1:]),
    )
    text += stanza(Files="*", Copyright="the lbctl maintainers", License=debian(chosen(expression(crates.lbctl))))
    used = set(chosen(expression(crates.lbctl)))
    for package in crates.linked:
        licences = chosen(expression(package))
        used |= set(licences)
        text += stanza(
            Files=f"crates/{package['name']}-{package['version']}/*",
            Copyright=folded(holders(package)),
            License=debian(licences),
        )
    text += stanza(Files="rust-std/*", Copyright="The Rust Project contributors", License="Apache-2.0")
    for licence in PREFERRED:
        if licence in used:
            body = (HERE / "licences" / licence).read_text().strip().split("\n\n")
            lines = []
            for place, paragraph in enumerate(body):
                lines += [" ."] if place else []
                lines += textwrap.wrap(" ".join(paragraph.split()), 78, initial_indent=" ", subsequent_indent=" ")
            text += f"License: {DEBIAN_NAMES.get(licence, licence)}\n" + "\n".join(lines) + "\n\n"
    return text.rstrip("\n") + "\n"


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def component(package, crates, **more):
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "description": " ".join((package["description"] or "").split()),
        "licenses": [{"expression": expression(package)}],
        "purl": purl(package),
    }
    checksum = crates.checksums.get((package["name"], package["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found | more


def bill(crates, binary):
    """CycloneDX 1.5: what is linked in is required; what only builds is excluded from the delivered program."""
    digest = hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()
    now = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    rustc = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    program = component(crates.lbctl, crates, type="application", hashes=[{"alg": "SHA-256", "content": digest}])
    standard = {
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": rustc["release"],
        "description": f"Rust's standard library, of {rustc['host']}",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "scope": "required",
    }
    parts = [component(p, crates, scope="required") for p in crates.linked] + [standard]
    parts += [component(p, crates, scope="excluded") for p in crates.tools]
    packages = [crates.lbctl, *crates.linked, *crates.tools]
    refs = {p["id"]: purl(p) for p in packages}
    nodes = {n["id"]: n for n in crates.metadata["resolve"]["nodes"]}

    def needs(package):
        def used(dependency):
            return any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])

        found = {refs[d["pkg"]] for d in nodes[package["id"]]["deps"] if used(d) and d["pkg"] in refs}
        return sorted(found | ({"rust-std"} if package is crates.lbctl else set()))

    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": now.isoformat(), "component": program},
        "components": parts,
        "dependencies": [{"ref": refs[p["id"]], "dependsOn": needs(p)} for p in packages] + [{"ref": "rust-std"}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    head = {"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "serialNumber": serial.urn}
    return json.dumps(head | document, indent=2) + "\n"


def main():
    match sys.argv[1:]:
        case ["copyright"]:
            sys.stdout.write(copyright_file(Crates()))
        case ["sbom", binary]:
            sys.stdout.write(bill(Crates(), binary))
        case _:
            sys.exit(__doc__)


main()
