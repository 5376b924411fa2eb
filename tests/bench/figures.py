"""What the tables of all benchmarks have in common: a figure with what is required of it, and its words for people.

A contender's value of a figure is a number (None: never came) and the words for it; where there is nothing to say, there is
no value.
"""
import json
import statistics


def seconds(number, watched=None):
    if number is None:
        return {"number": None, "text": "never" + (" (in %d s)" % watched if watched else "")}
    return {"number": round(number, 3), "text": "%.2f s" % number}


def worst(values, watched=None):
    """Of times: the one that never came is the worst."""
    values = list(values)
    return seconds(None if None in values else max(values), watched)


def middle(values):
    values = sorted(values, key=lambda value: (value is None, value))
    return seconds(None if values[len(values) // 2] is None else statistics.median(v for v in values if v is not None))


def count(number, of=None):
    return {"number": number, "text": str(number) if of is None else "%d of %d" % (number, of)}


def total(entries, key):
    return sum(entry[key] for entry in entries)


def rounded(values):
    return [None if value is None else round(value, 3) for value in values]


def figure(key, label, required, values, ours=("lbctl",)):
    """`ours`: those of whom it is required."""
    numbers = [values[name]["number"] for name in ours if name in values]
    met = all(reached(required, number) for number in numbers) if required and numbers else None
    return {"key": key, "label": label, "required": required, "values": values, "reached": met}


def reached(required, number):
    kind, limit = required
    return number is not None and (number <= limit if kind == "at most" else number >= limit)


def required_words(required):
    if required is None:
        return ""
    kind, limit = required
    # A figure that is 1 or 0.
    if (kind, limit) == ("at least", 1):
        return "yes"
    return "%s %s" % ({"at most": "≤", "at least": "≥"}[kind], limit) if limit else "0"


def rows(told, names):
    yield ["", "required", *names.values(), "reached"]
    for one in told["figures"]:
        values = [one["values"].get(name, {"text": "–"})["text"] for name in names]
        yield [one["label"], required_words(one["required"]), *values,
               {None: "", True: "yes", False: "NO"}[one["reached"]]]


def text_table(told, names):
    table = list(rows(told, names))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown_table(told, names):
    lines = ["| %s |" % " | ".join(row) for row in rows(told, names)]
    lines.insert(1, "|" + "---|" * (len(names) + 3))
    return "\n".join(lines)


def replaced(path, begin, middle, end):
    before, rest = path.read_text(encoding="utf-8").split(begin)
    return before + begin + middle + end + rest.split(end)[1]


def compact(told):
    """One figure a line: such a file can be read, and compared with the last one."""
    lines = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in told["figures"])
    rest = ['"%s": %s' % (key, json.dumps(told[key], ensure_ascii=False)) for key in ("schema", "about", "samples")]
    return '{\n %s,\n "figures": [\n  %s\n ]\n}\n' % (",\n ".join(rest), lines)
