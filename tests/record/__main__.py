"""Types the demo's commands in a terminal of 80 columns and keeps what it shows: docs/demo.svg, which moves, docs/demo/*.svg,
which do not, and docs/demo.md, which has all of it as text. The lab's variables are in the environment.

    record DIR BIN DOCS     DIR: the demo's lbctl.toml; BIN: where lbctl is; DOCS: where the pictures go
    record draw DIR DOCS    only draws what was recorded in DIR
    record still            draws {"title": …, "lines": […]} of its input on its output; tests/it/demo.rs compares with it"""
import json
import os
import shutil
import subprocess
import sys
import time

from terminal import Terminal, film, still

# Title, text, and what is typed. A name: the scene's last screen is kept as a picture of that name.
SCENES = [
    ("All problems of a configuration at once", "A configuration with three mistakes. Nothing but the file was read.",
     "error", ["lbctl -c slips.toml check"]),
    ("Does the host have what is needed, and do Patroni's nodes answer?", "", "check", ["lbctl check --host"]),
    ("What would happen", "`plan` changes nothing.", "plan", ["lbctl plan"]),
    ("Create it, and wait until psql works",
     "The guest is emulated here, on a busy machine; with KVM it boots in a fraction of the time.", "up",
     ["lbctl up --wait=30m"]),
    ("psql reaches the primary", "", "psql", ["{psql}"]),
    ("Run again: nothing to do", "", "", ["lbctl up"]),
    ("A switchover: the load balancer follows by itself", "", "switchover",
     ["patronictl switchover lab --leader {leader} --candidate {other} --force | grep Success", "{psql}"]),
    ("What a change would do", "With `-v` the lines that change are shown.", "live",
     ["sed -i 's/^\\[haproxy\\]/&\\nmax_connections = 1500/' lbctl.toml", "lbctl plan -v"]),
    ("A change that a running guest takes", "No session is cut.", "change", ["lbctl up"]),
    ("The client certificate, renewed", "A timer does this. No session is cut.", "renew",
     ["lbctl renew", "lbctl renew --force"]),
    ("A change that needs a restart of the guest", "Where nobody can be asked, it is refused with exit code 4. On a terminal "
     "`up` asks; `--restart now` and\n`--restart later` answer beforehand.", "restart",
     ["sed -i 's/^memory = 1024/memory = 1280/' lbctl.toml", "lbctl plan", "lbctl up --restart never; echo exit $?"]),
    ("", "", "", ["sed -i 's/^memory = 1280/memory = 1024/' lbctl.toml"]),
    ("A change that needs another disk", "`up` does it with `--replace-disk` only.", "replace",
     ["sed -i 's/^size = \"5 GiB\"/size = \"4 GiB\"/' lbctl.toml", "lbctl plan; echo exit $?"]),
    ("", "", "", ["sed -i 's/^size = \"4 GiB\"/size = \"5 GiB\"/' lbctl.toml"]),
    ("Status", "", "status", ["lbctl status"]),
    ("Everything removed", "", "down", ["lbctl down --delete-volume --yes"]),
]
# The film: what is worth seeing in it, within so many seconds. It ends with its poster.
FILM = ["plan", "up", "psql", "switchover", "change", "status"]
FILM_SECONDS = 25
# Of these one picture is kept.
STILLS = {"check", "plan", "up", "live", "status", "renew", "restart", "replace", "error", "down"}
# Where an error is what is to be seen.
REFUSED = {"error", "restart", "replace"}

# As on a KVM host: in its place in the network, and its libvirt where libvirt always is.
PLACE = """exec ip netns exec "$LAB_NETNS" unshare --mount sh -ec '
  mkdir -p /run/libvirt
  mount -t tmpfs tmpfs /run/libvirt
  touch /run/libvirt/libvirt-sock
  mount --bind "${{LIBVIRT_URI##*socket=}}" /run/libvirt/libvirt-sock
  exec bash --noprofile --rcfile {rc}'
"""
# lbctl is called as one would; the psql and patronictl of the lab are where its client and its cluster are.
SHELL = """
export PATH={bin}:$PATH PAGER=cat PGPASSWORD=$PG_PASSWORD LC_ALL=C.UTF-8
psql() {{ ip netns exec "$CLIENT_NETNS" "$PSQL" -U "$PG_SUPERUSER" -d postgres "$@"; }}
patronictl() {{ "$PATRONICTL" "$@"; }}
clear
"""
LONGEST = 1900  # seconds, for one command


def slips(directory):
    """The demo's configuration with what one gets wrong."""
    with open(os.path.join(directory, "lbctl.toml"), encoding="utf-8") as f:
        text = f.read()
    for right, wrong in [("vcpus = 2", "vcpu = 2"), ('size = "5 GiB"', 'size = "5 gigs"'),
                         ("certificate_early_renewal_period = 720", "certificate_early_renewal_period = 9000")]:
        if right not in text:
            raise SystemExit("the demo's configuration has no line %r" % right)
        text = text.replace(right, wrong)
    with open(os.path.join(directory, "slips.toml"), "w", encoding="utf-8") as f:
        f.write(text)


class Film:
    """The screens in their order, with how long each is to be seen."""
    # Screens of a wait that are kept at its begin; the others are left out, and the film says so.
    KEPT = 10

    def __init__(self):
        self.frames, self.scene, self.began = [], [], 0.0

    def look(self, lines):
        if not self.scene:
            self.began = time.monotonic()
        if lines and (not self.scene or self.scene[-1] != lines):
            self.scene.append(lines)

    def rest(self):
        """The command has ended: its last screen is to be read."""
        if not self.scene:
            return
        *moving, last = self.scene
        left_out = len(moving) - self.KEPT
        took = time.monotonic() - self.began
        self.frames += [(lines, 0.2) for lines in moving[:self.KEPT]]
        if left_out > 0:
            self.frames.append((moving[self.KEPT] + ["", "\x1b[2m(%d s later)\x1b[0m" % took], 0.8))
        self.frames.append((last, 2.5))
        self.scene = []


def words():
    """What stands for the lab's own in the commands."""
    found = {"leader": "pg1", "other": "pg2"}
    listed = subprocess.run([os.environ["PATRONICTL"], "list", "-f", "json"], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        members = json.loads(listed.stdout)
        found["leader"] = next(m["Member"] for m in members if m["Role"] == "Leader")
        found["other"] = next(m["Member"] for m in members if m["Role"] != "Leader")
    found["psql"] = "psql -h %s -c 'select inet_server_addr(), pg_is_in_recovery()'" % os.environ["NETWORK_GUEST_IP"]
    return found


def record(directory, bin_directory, only):
    """Runs the scenes, and keeps every screen in DIR/screens.json."""
    slips(directory)
    names = words()
    # As it is before a scene changes it.
    shutil.copy(os.path.join(directory, "lbctl.toml"), os.path.join(directory, "kept.toml"))
    terminal, moving, scenes = Terminal(directory, SHELL.format(bin=bin_directory), PLACE), Film(), []
    try:
        for title, text, name, commands in SCENES:
            if only and name not in only:
                continue
            terminal.type("clear")
            terminal.press("Enter")
            terminal.prompt(10)
            for command in commands:
                terminal.run(command.format(**names), LONGEST, moving.look if name in FILM else lambda lines: None)
                moving.rest()
            screen, lines = terminal.seen()
            wrong = [line for line in lines if line.startswith("error") or "L6TOUT" in line or "L7TOUT" in line]
            if wrong and name not in REFUSED:
                raise SystemExit("%s: not what is to be shown: %s" % (commands[-1], "\n".join(lines)))
            scenes.append({"title": title, "text": text, "name": name, "screen": screen, "lines": lines})
    finally:
        terminal.close()
        with open(os.path.join(directory, "screens.json"), "w", encoding="utf-8") as f:
            json.dump({"scenes": scenes, "film": moving.frames}, f, indent=1)


def draw(directory, docs):
    """Makes the pictures and the page of what was recorded."""
    with open(os.path.join(directory, "screens.json"), encoding="utf-8") as f:
        recorded = json.load(f)
    kept = {"demo/%s.svg" % scene["name"]: still(scene["screen"], "lbctl: " + scene["title"])
            for scene in recorded["scenes"] if scene["name"] in STILLS}
    frames = within(recorded["film"], FILM_SECONDS)
    kept["demo.svg"] = film(frames, "lbctl in a terminal: plan, up, psql, switchover, change, status")
    kept["demo.md"] = text_page([scene for scene in recorded["scenes"] if scene["title"]])
    for name, source in (("lbctl.toml", "kept.toml"), ("slips.toml", "slips.toml")):
        with open(os.path.join(directory, source), encoding="utf-8") as f:
            kept["demo/" + name] = f.read()
    for path, text in kept.items():
        keep(os.path.join(docs, path), text)


def within(frames, seconds):
    whole = sum(shown for _, shown in frames)
    return [(lines, shown * seconds / whole) for lines, shown in frames]


def main():
    match sys.argv[1:]:
        case ["still"]:
            asked = json.load(sys.stdin)
            print(still(asked["lines"], asked["title"]), end="")
        case ["draw", directory, docs]:
            draw(os.path.abspath(directory), os.path.abspath(docs))
        case [directory, bin_directory, docs, *only]:
            directory = os.path.abspath(directory)
            record(directory, os.path.abspath(bin_directory), only)
            draw(directory, os.path.abspath(docs))
        case _:
            raise SystemExit(__doc__)


def text_page(scenes):
    parts = ["# The demo, as a terminal shows it\n",
             "Typed and kept by `./dev record`, on a lab of its own: a VM in front of a real three-node Patroni. The same "
             "moves in\n[demo.svg](demo.svg). Where a scene has a picture, its title leads there. The configuration is "
             "[lbctl.toml](demo/lbctl.toml), and with three mistakes\n[slips.toml](demo/slips.toml).\n"]
    for scene in scenes:
        title, text, name, lines = (scene[key] for key in ("title", "text", "name", "lines"))
        head = "[%s](demo/%s.svg)" % (title, name) if name in STILLS else title
        parts.append("## %s\n" % head)
        if text:
            parts.append(text + "\n")
        parts.append("```console\n%s\n```\n" % "\n".join(lines))
    return "\n".join(parts)


def keep(path, text):
    """What names a folder of the machine that it was made on must not be kept."""
    for folder in (os.getcwd(), os.path.expanduser("~")):
        if folder in text:
            raise SystemExit("%s would name %s: not written" % (path, folder))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    print("%s: %d KiB" % (os.path.relpath(path), len(text.encode()) // 1024 + 1))


if __name__ == "__main__":
    main()
