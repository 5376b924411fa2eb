"""A terminal of 80 columns to type into and to look at (tmux's), and what it shows as pictures: SVG with the text as text.
Python's standard library only."""
import html
import os
import re
import subprocess
import time

COLUMNS = 80
ROWS = 36
# Of a character, in the picture's units.
WIDTH, HEIGHT, PAD = 8.4, 18, 14
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
# On the dark ground each is at least 4.5 to 1.
COLOURS = ["#8b949e", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#f0f6fc"]
# The edge is seen on a dark page.
GROUND, INK, EDGE = "#161b22", "#e6edf3", "#3d444d"


class Terminal:
    """A shell in tmux. `script` is read by the shell before its first prompt; `place` is the command that begins the
    shell, whose file is {rc}."""

    def __init__(self, directory, script, place="exec bash --noprofile --rcfile {rc}"):
        self.socket = "lbctl-record-%d" % os.getpid()
        rc = os.path.join(directory, "shell")
        with open(rc, "w", encoding="utf-8") as f:
            f.write(script + "\nPS1='$ '\nPROMPT_COMMAND='tmux -L %s wait-for -S prompt'\n" % self.socket)
        self.tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-c", directory,
                  "env", "TERM=screen-256color", "sh", "-ec", place.format(rc=rc))
        self.tmux("set-option", "-g", "status", "off")
        self.prompt(10)

    def tmux(self, *words, timeout=30):
        done = subprocess.run(["tmux", "-L", self.socket, *words], capture_output=True, text=True, timeout=timeout,
                              check=True)
        return done.stdout

    def prompt(self, seconds):
        self.tmux("wait-for", "prompt", timeout=seconds)
        self.see_prompt()

    def see_prompt(self):
        """The shell says so before it draws it, and what is typed between the two would stand there twice."""
        deadline = time.monotonic() + 10
        while not plain(([""] + self.screen())[-1]).strip() == "$":
            if time.monotonic() > deadline:
                raise TimeoutError("the shell shows no prompt")
            time.sleep(0.1)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def press(self, key):
        self.tmux("send-keys", key)

    def screen(self, *how):
        """Its lines, with colours, without the empty ones at the end."""
        lines = [line.rstrip() for line in carried(self.tmux("capture-pane", "-e", "-p", *how).split("\n"))]
        while lines and not plain(lines[-1]).strip():
            lines.pop()
        return lines

    def run(self, command, seconds, look):
        """Types a command and shows `look` each new screen: often at first, seldom in a long wait."""
        self.type(command)
        time.sleep(0.1)
        look(self.screen())
        waiter = subprocess.Popen(["tmux", "-L", self.socket, "wait-for", "prompt"])
        started = time.monotonic()
        try:
            self.press("Enter")
            while waiter.poll() is None:
                waited = time.monotonic() - started
                if waited > seconds:
                    raise TimeoutError("%s: no end within %d s" % (command, seconds))
                try:
                    waiter.wait(0.3 if waited < 4 else waited / 6)
                except subprocess.TimeoutExpired:
                    look(self.screen())
        finally:
            waiter.kill()
        self.see_prompt()
        look(without_prompt(self.screen()))

    def seen(self):
        """What stands there now: as it looks, and as text with the lines that the terminal broke made whole."""
        return without_prompt(self.screen()), [plain(line) for line in without_prompt(self.screen("-J"))]

    def close(self):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False, capture_output=True)


def carried(lines):
    """tmux says how a character looks only where that changes, also from one line to the next. Here each line says it."""
    state = ""
    for line in lines:
        yield state + line
        for sequence in re.findall(r"\x1b\[[0-9;]*m", line):
            state = "" if sequence in ("\x1b[m", "\x1b[0m") else state + sequence


def without_prompt(lines):
    if lines and plain(lines[-1]).strip() == "$":
        lines = lines[:-1]
    while lines and not plain(lines[-1]).strip():
        lines = lines[:-1]
    return lines


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m|[\x0e\x0f]", "", line)


def spans(line):
    """A line as (text, colour, bold, dim)."""
    colour, bold, dim = None, False, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line.replace("\x0e", "").replace("\x0f", "")):
        if not part.startswith("\x1b["):
            if part:
                yield part, colour, bold, dim
            continue
        for code in [int(n or 0) for n in part[2:-1].split(";")]:
            if code == 0:
                colour, bold, dim = None, False, False
            elif code == 1:
                bold = True
            elif code == 2:
                dim = True
            elif code in (22,):
                bold, dim = False, False
            elif 30 <= code <= 37 or 90 <= code <= 97:
                colour = COLOURS[code % 10]
            elif code == 39:
                colour = None


def text_element(line, y):
    """`textLength` keeps the columns whatever font the reader has."""
    shown = plain(line)
    if not shown.strip():
        return ""
    parts = []
    for text, colour, bold, dim in spans(line):
        style = (' fill="%s"' % colour if colour else "") + (' font-weight="bold"' if bold else "")
        style += ' opacity="0.75"' if dim else ""
        text = html.escape(text, quote=False)
        parts.append("<tspan%s>%s</tspan>" % (style, text) if style else text)
    return '<text x="%d" y="%d" textLength="%.1f">%s</text>' % (PAD, y, len(shown) * WIDTH, "".join(parts))


def page(lines, title, body, style=""):
    width, height = COLUMNS * WIDTH + 2 * PAD, lines * HEIGHT + 2 * PAD
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" role="img" xml:space="preserve">\n'
            '<title>%s</title>\n'
            "<style>text{font:14px %s;fill:%s;white-space:pre}%s</style>\n"
            '<rect x="0.5" y="0.5" width="%d" height="%d" rx="6" fill="%s" stroke="%s"/>\n%s\n</svg>\n'
            % (width, height, width, html.escape(title), FONT, INK, style, width - 1, height - 1, GROUND, EDGE, body))


def still(lines, title):
    rows = [text_element(line, PAD + HEIGHT * (n + 1) - 5) for n, line in enumerate(lines)]
    return page(len(lines), title, "\n".join(row for row in rows if row))


def film(frames, title):
    """Frames are (lines, seconds). Each distinct line is there once; the frames stand side by side and are shown one after
    the other. The last is the poster, too: drawn apart, for whoever runs no styles or wants no motion."""
    seen, strips, rows = {}, [], max(len(lines) for lines, _ in frames)
    width = COLUMNS * WIDTH + 2 * PAD
    for number, (lines, _) in enumerate(frames):
        uses = []
        for row, line in enumerate(lines):
            if plain(line).strip():
                name = seen.setdefault(line, "l%d" % len(seen))
                uses.append('<use href="#%s" y="%d"/>' % (name, row * HEIGHT))
        strips.append('<g transform="translate(%d)">%s</g>' % (number * width, "".join(uses)))
    whole = sum(seconds for _, seconds in frames)
    stops, at = [], 0.0
    for number, (_, seconds) in enumerate(frames):
        stops.append("%.3f%%{transform:translateX(-%dpx)}" % (100 * at / whole, number * width))
        at += seconds
    stops.append("100%%{transform:translateX(-%dpx)}" % ((len(frames) - 1) * width))
    style = ("@keyframes film{%s}@media (prefers-reduced-motion:no-preference){#poster{visibility:hidden}"
             "#film{visibility:visible;animation:film %.1fs step-end infinite}}" % ("".join(stops), whole))
    first = PAD + HEIGHT - 5
    lines = "\n".join(text_element(line, first).replace("<text ", '<text id="%s" ' % name, 1)
                      for line, name in seen.items())
    poster = [text_element(line, first + row * HEIGHT) for row, line in enumerate(frames[-1][0])]
    body = ('<defs>\n%s\n</defs>\n<g id="poster">\n%s\n</g>\n<g id="film" visibility="hidden">\n%s\n</g>'
            % (lines, "\n".join(row for row in poster if row), "\n".join(strips)))
    return page(rows, title, body, style)
