"""The files of a guest, from what `lbctl render` wrote."""
import shlex

import yaml


def files_of(folder):
    """Path in the guest to text and mode: what cloud-init writes, and what the boothook of the vendor-data does."""
    data = yaml.safe_load((folder / "user-data").read_text(encoding="utf-8"))
    files = programs((folder / "vendor-data").read_text(encoding="utf-8"))
    return files | {entry["path"]: (entry["content"], int(entry["permissions"], 8)) for entry in data["write_files"]}


def programs(hook):
    """Each is `printf %s TEXT >PATH`, and those that can be run `chmod 0755 PATH` behind that."""
    words = shlex.split(hook, comments=True)
    files = {words[at + 3].removeprefix(">"): (words[at + 2], 0o644)
             for at, word in enumerate(words) if word == "printf" and words[at + 3].startswith(">/")}
    for at, word in enumerate(words):
        if word == "chmod":
            files[words[at + 2]] = (files[words[at + 2]][0], int(words[at + 1], 8))
    return files
