"""The picture of a run: every repetition of every timed event, on one logarithmic axis of seconds. Same numbers, same bytes.

A contender has a shape, a place in its row and its name beside it; colour only repeats them. What is required is a line.
"""
import math
from xml.sax.saxutils import escape

# What a row shows: its name, where its samples are, what is required.
ROWS = [
    ("Primary flips: new primary used after", "flip", "new_used", 1.0),
    ("Primary flips: old primary used until", "flip", "old_used", 0.5),
    ("Primary flips: open session cut after", "flip", "cut", 1.0),
    ("Switchover of a real cluster: gap between two writes", "real", "gap", 3.3),
    ("Leader killed: first write after the successor's promotion", "real", "first_write", 0.5),
    ("Leader frozen: open session cut after", "real", "cut", 3.0),
]
STYLE = {"lbctl": ("circle", "#0a5c99"), "module": ("square", "#b04a00"), "sample": ("triangle", "#4d4d4d")}
LEFT, WIDTH, RIGHT, TOP, LINE = 150, 620, 190, 70, 22
LEAST, MOST = 0.05, 40.0
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40)


def x(seconds):
    inside = min(max(seconds, LEAST), MOST)
    return LEFT + WIDTH * math.log(inside / LEAST) / math.log(MOST / LEAST)


def text(at, y, words, more=""):
    return '<text x="%.1f" y="%.1f" %s>%s</text>' % (at, y, more, escape(words))


def line(x1, y1, x2, y2, more):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>' % (x1, y1, x2, y2, more)


def mark(name, at, y):
    shape, colour = STYLE[name]
    look = 'fill="%s" fill-opacity="0.45" stroke="%s"' % (colour, colour)
    if shape == "circle":
        return '<circle cx="%.1f" cy="%.1f" r="4" %s/>' % (at, y, look)
    if shape == "square":
        return '<rect x="%.1f" y="%.1f" width="7" height="7" %s/>' % (at - 3.5, y - 3.5, look)
    return '<path d="M%.1f %.1f l4.5 8 h-9 z" %s/>' % (at, y - 4.5, look)


def contender(name, words, samples, y):
    """One contender's line in a row: a mark for each time, and the worst in words."""
    drawn = [text(LEFT - 10, y + 4, words, 'text-anchor="end"')]
    came = sorted(value for value in samples if value is not None)
    drawn += [mark(name, x(value), y) for value in came]
    if len(came) < len(samples):
        worst = "never" if not came else "not in %d of %d" % (len(samples) - len(came), len(samples))
    else:
        worst = "max %.2f s" % came[-1] if came else "not measured"
    drawn.append(text(LEFT + WIDTH + 14, y + 4, worst))
    return drawn


def axis(top, bottom):
    drawn = []
    for tick in TICKS:
        drawn.append(line(x(tick), top, x(tick), bottom, 'stroke="#dddddd"'))
        drawn.append(text(x(tick), bottom + 18, "%g" % tick, 'text-anchor="middle"'))
    drawn.append(line(LEFT, bottom, LEFT + WIDTH, bottom, 'stroke="#333333"'))
    drawn.append(text(LEFT + WIDTH / 2, bottom + 40, "seconds (logarithmic; shorter is better; each mark is one repetition)",
                      'text-anchor="middle"'))
    return drawn


def row(title, samples, required, names, top):
    bottom = top + LINE * (len(names) + 0.5)
    drawn = [text(LEFT, top - 4, title, 'font-weight="bold"')]
    drawn.append(line(x(required), top, x(required), bottom, 'stroke="#000000" stroke-width="1.5" stroke-dasharray="5 3"'))
    drawn.append(text(x(required) + 4, bottom + 1, "required ≤ %g s" % required, 'font-size="11"'))
    for number, (name, words) in enumerate(names.items()):
        drawn += contender(name, words, samples.get(name, []), top + LINE * (number + 0.5))
    return drawn


def picture(samples, names):
    """`samples`: report.summary's. Rows without any are left out."""
    shown = [(title, {name: samples[part][name][key] for name in names}, required)
             for title, part, key, required in ROWS if part in samples]
    pitch = LINE * (len(names) + 2)
    bottom = TOP + pitch * len(shown) - LINE
    drawn = axis(TOP - 8, bottom)
    for number, (title, values, required) in enumerate(shown):
        drawn += row(title, values, required, names, TOP + pitch * number)
    height, width = bottom + 56, LEFT + WIDTH + RIGHT
    head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
            'font-size="13" fill="#111111" role="img" aria-labelledby="title">' % (width, height, width, height))
    return "\n".join([head, '<title id="title">Failover through three load balancers</title>',
                      '<rect width="100%" height="100%" fill="#ffffff"/>',
                      text(LEFT, 28, "How long a failover takes through each load balancer",
                           'font-size="17" font-weight="bold"'),
                      *drawn, "</svg>"]) + "\n"
