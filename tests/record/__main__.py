"""Types the demo's commands in a terminal of 80 columns and keeps what it shows: docs/demo.svg, which moves, docs/demo/*.svg,
which do not, and docs/demo.md, which has all of it as text. The lab's variables are in the environment.

    record DIR BIN DOCS     DIR: the demo's lbctl.toml; BIN: where lbctl is; DOCS: where the pictures go"""
import json
import os
import subprocess
import sys

from terminal import Terminal, film, still

# Title, text, and what is typed. A name: the scene's last screen is kept as a picture of that name.
SCENES = [
    ("All problems of a configuration at once", "A configuration with three slips. Nothing but the file was looked at.",
     "error", ["lbctl -c slips.toml check"]),
    ("What would happen", "`plan` changes nothing.", "plan", ["lbctl plan"]),
    ("Make it so, and wait until psql works",
     "The guest is emulated here, on a busy machine; with KVM it boots in a fraction of the time.", "up", ["lbctl up --wait"]),
    ("psql reaches the primary", "", "", ["{psql}"]),
    ("Run again: nothing to do", "", "", ["lbctl up"]),
    ("A switchover: the load balancer follows by itself", "", "",
     ["patronictl switchover lab --leader {leader} --candidate {other} --force | grep Success", "{psql}"]),
    ("What a change would do", "With `-v` the lines that change are shown.", "live",
     ["sed -i 's/^\\[haproxy\\]/&\\nmax_connections = 1500/' lbctl.toml", "lbctl plan -v"]),
    ("A change that a running guest takes", "No session is cut.", "", ["lbctl up"]),
    ("A change that needs a restart of the guest", "Where nobody can be asked, it is refused with exit code 4. On a terminal "
     "`up` asks; `--restart now` and\n`--restart later` say it beforehand.", "restart",
     ["sed -i 's/^memory = 1024/memory = 1280/' lbctl.toml", "lbctl plan", "lbctl up --restart never; echo exit $?"]),
    ("", "", "", ["sed -i 's/^memory = 1280/memory = 1024/' lbctl.toml"]),
    ("A change that needs another disk", "Never done by `up`.", "replace",
     ["sed -i 's/^size = \"5 GiB\"/size = \"4 GiB\"/' lbctl.toml", "lbctl plan; echo exit $?"]),
    ("", "", "", ["sed -i 's/^size = \"4 GiB\"/size = \"5 GiB\"/' lbctl.toml"]),
    ("The client certificate, renewed", "A timer does this. No session is cut.", "renew",
     ["lbctl renew", "lbctl renew --force"]),
    ("How it is", "", "status", ["lbctl status"]),
    ("Everything removed", "", "down", ["lbctl down --delete-volume --yes"]),
]
# Where an error is what is to be seen.
REFUSED = {"error", "restart", "replace"}

# lbctl is called as one would; the psql and patronictl of the lab are where its client and its cluster are.
SHELL = """
export PATH={bin}:$PATH PAGER=cat PGPASSWORD=$PG_PASSWORD
psql() {{ ip netns exec "$CLIENT_NETNS" "$PSQL" -U "$PG_SUPERUSER" -d postgres "$@"; }}
patronictl() {{ "$PATRONICTL" "$@"; }}
clear
"""
LONGEST = 900  # seconds, for one command


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

    def __init__(self):
        self.frames = []

    def look(self, lines):
        if lines and (not self.frames or self.frames[-1][0] != lines):
            self.frames.append((lines, 0.35))

    def rest(self):
        if self.frames:
            self.frames[-1] = (self.frames[-1][0], 3.0)


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


def main():
    directory, bin_directory, docs = (os.path.abspath(path) for path in sys.argv[1:4])
    only = sys.argv[4:]
    slips(directory)
    names = words()
    terminal, moving, page, pictures = Terminal(directory, SHELL.format(bin=bin_directory)), Film(), [], {}
    try:
        for title, text, name, commands in SCENES:
            if only and name not in only:
                continue
            terminal.type("clear")
            terminal.press("Enter")
            terminal.prompt(10)
            for command in commands:
                terminal.run(command.format(**names), LONGEST, moving.look if title else lambda lines: None)
                moving.rest()
            screen, lines = terminal.seen()
            wrong = [line for line in lines if line.startswith("error") or "L6TOUT" in line or "L7TOUT" in line]
            if wrong and name not in REFUSED:
                raise SystemExit("%s: not what is to be shown: %s" % (commands[-1], "\n".join(lines)))
            if title:
                page.append((title, text, name, lines))
            if name:
                pictures[name] = still(screen, "lbctl: " + title)
    finally:
        terminal.close()
    pictures = {"demo/%s.svg" % name: text for name, text in pictures.items()}
    pictures["demo.svg"] = film(moving.frames, "lbctl in a terminal: plan, up, switchover, change, renewal, status, down")
    pictures["demo.md"] = text_page(page)
    for path, text in pictures.items():
        keep(os.path.join(docs, path), text)


def text_page(scenes):
    parts = ["# The demo, as a terminal shows it\n",
             "Typed and kept by `./dev record`, on a lab of its own: a VM in front of a real three-node Patroni. The same "
             "moves in\n[demo.svg](demo.svg). Where a scene has a picture, its title leads there.\n"]
    for title, text, name, lines in scenes:
        head = "[%s](demo/%s.svg)" % (title, name) if name else title
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
