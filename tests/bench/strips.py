"""Pictures of timed events: every repetition as a mark on one logarithmic axis of seconds. Same numbers, same bytes.

A contender has a shape, a place in its row and its name beside it; colour only repeats them. What is required is a line.
"""
import math
from xml.sax.saxutils import escape

LOOKS = [("circle", "#0a5c99"), ("diamond", "#2e7d32"), ("square", "#b04a00"), ("triangle", "#4d4d4d")]
LEFT, WIDTH, RIGHT, TOP, LINE = 150, 620, 190, 70, 22


def text(at, y, words, more=""):
    return '<text x="%.1f" y="%.1f" %s>%s</text>' % (at, y, more, escape(words))


def line(x1, y1, x2, y2, more):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>' % (x1, y1, x2, y2, more)


def mark(look, at, y):
    shape, colour = look
    look = 'fill="%s" fill-opacity="0.45" stroke="%s"' % (colour, colour)
    if shape == "circle":
        return '<circle cx="%.1f" cy="%.1f" r="4" %s/>' % (at, y, look)
    if shape == "diamond":
        return '<path d="M%.1f %.1f l4.5 4.5 -4.5 4.5 -4.5 -4.5 z" %s/>' % (at, y - 4.5, look)
    if shape == "square":
        return '<rect x="%.1f" y="%.1f" width="7" height="7" %s/>' % (at - 3.5, y - 3.5, look)
    return '<path d="M%.1f %.1f l4.5 8 h-9 z" %s/>' % (at, y - 4.5, look)


class Strips:
    """The axis: what is shorter than its first tick or longer than its last stands at that end."""

    def __init__(self, ticks, left=LEFT):
        self.ticks, self.left = ticks, left

    def x(self, seconds):
        least, most = self.ticks[0], self.ticks[-1]
        inside = min(max(seconds, least), most)
        return self.left + WIDTH * math.log(inside / least) / math.log(most / least)

    def contender(self, look, words, samples, y):
        """One contender's line in a row: a mark for each time, and the worst in words."""
        drawn = [text(self.left - 10, y + 4, words, 'text-anchor="end"')]
        came = sorted(value for value in samples if value is not None)
        drawn += [mark(look, self.x(value), y) for value in came]
        if len(came) < len(samples):
            worst = "never" if not came else "not in %d of %d" % (len(samples) - len(came), len(samples))
        else:
            worst = "max %.2f s" % came[-1] if came else "not measured"
        drawn.append(text(self.left + WIDTH + 14, y + 4, worst))
        return drawn

    def axis(self, top, bottom):
        drawn = []
        for tick in self.ticks:
            drawn.append(line(self.x(tick), top, self.x(tick), bottom, 'stroke="#dddddd"'))
            drawn.append(text(self.x(tick), bottom + 18, "%g" % tick, 'text-anchor="middle"'))
        drawn.append(line(self.left, bottom, self.left + WIDTH, bottom, 'stroke="#333333"'))
        drawn.append(text(self.left + WIDTH / 2, bottom + 40,
                          "seconds (logarithmic; shorter is better; each mark is one repetition)", 'text-anchor="middle"'))
        return drawn

    def row(self, title, samples, required, names, top):
        bottom = top + LINE * (len(names) + 0.5)
        drawn = [text(self.left, top - 4, title, 'font-weight="bold"')]
        at = self.x(required)
        drawn.append(line(at, top, at, bottom, 'stroke="#000000" stroke-width="1.5" stroke-dasharray="5 3"'))
        drawn.append(text(at + 4, bottom + 1, "required ≤ %g s" % required, 'font-size="11"'))
        for number, ((name, words), look) in enumerate(zip(names.items(), LOOKS, strict=False)):
            drawn += self.contender(look, words, samples.get(name, []), top + LINE * (number + 0.5))
        return drawn

    def picture(self, title, words, shown, names):
        """`shown`: (title, {name: times}, what is required) of each row."""
        pitch = LINE * (len(names) + 2)
        bottom = TOP + pitch * len(shown) - LINE
        drawn = self.axis(TOP - 8, bottom)
        for number, (of_row, values, required) in enumerate(shown):
            drawn += self.row(of_row, values, required, names, TOP + pitch * number)
        height, width = bottom + 56, self.left + WIDTH + RIGHT
        head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
                'font-size="13" fill="#111111" role="img" aria-labelledby="title">' % (width, height, width, height))
        return "\n".join([head, '<title id="title">%s</title>' % title, '<rect width="100%" height="100%" fill="#ffffff"/>',
                          text(self.left, 28, words, 'font-size="17" font-weight="bold"'), *drawn, "</svg>"]) + "\n"
