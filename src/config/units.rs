//! The units of times, sizes, memory and hours, and what each is worth: once for the readers, and
//! for the JSON Schema's patterns, which also know the bounds of a key in each unit.

use std::ops::RangeInclusive;

use super::key::Kind;

/// A unit as it is written behind a number, and what it is worth.
type Unit = (&'static str, u64);

/// HAProxy's, in microseconds. A bare number is milliseconds.
const TIMES: [Unit; 7] = [
    ("us", 1),
    ("ms", 1000),
    ("", 1000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];
/// In bytes. K to T are powers of 1024, as in virsh and qemu-img, KB to TB are powers of 1000.
const SIZES: [Unit; 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];
/// In seconds.
const HOURS: [Unit; 6] = [
    ("s", 1),
    ("m", 60),
    ("min", 60),
    ("h", 3600),
    ("d", 24 * 3600),
    ("w", 7 * 24 * 3600),
];

/// The units of a kind; none of kinds without. The empty one is that of a bare number in quotes.
fn units(kind: Kind) -> &'static [Unit] {
    match kind {
        Kind::Time => &TIMES,
        Kind::Size => &SIZES,
        // A bare number in quotes could be bytes or MiB.
        Kind::Memory => SIZES.get(1..).unwrap_or_default(),
        Kind::Hours => &HOURS,
        _ => &[],
    }
}

/// What the numbers of a key's bounds are worth in the unit of [`units`].
fn of_bounds(kind: Kind) -> u64 {
    match kind {
        Kind::Time => 1000,
        Kind::Memory => 1 << 20,
        Kind::Hours => 3600,
        _ => 1,
    }
}

/// Whether the text may have blanks around the number, and its unit any case. HAProxy takes
/// neither.
fn is_lenient(kind: Kind) -> bool {
    kind != Kind::Time
}

/// The number of a text and what its unit is worth: microseconds of a time, bytes of a size or a
/// memory, seconds of hours. `None`: it is no such text. A number of more than 64 bits is the
/// largest of them, which is above all bounds.
pub(super) fn split(text: &str, kind: Kind) -> Option<(u64, u64)> {
    let text = if is_lenient(kind) { text.trim() } else { text };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return None;
    }
    let is_written = |name: &str| {
        if is_lenient(kind) {
            unit.trim().eq_ignore_ascii_case(name)
        } else {
            unit == name
        }
    };
    let (_, worth) = units(kind).iter().find(|(name, _)| is_written(name))?;
    Some((number.parse().unwrap_or(u64::MAX), *worth))
}

/// What such a text looks like, as a regular expression (see `forms`).
pub(super) fn form(kind: Kind) -> String {
    let (bare, named): (Vec<&Unit>, Vec<&Unit>) =
        units(kind).iter().partition(|(name, _)| name.is_empty());
    let named: Vec<String> = named.into_iter().map(|unit| written(unit, kind)).collect();
    let may_lack = if bare.is_empty() { "" } else { "?" };
    let unit = format!("(?:{}){may_lack}", named.join("|"));
    with_blanks("[0-9]+", &unit, kind)
}

/// The same for a key of those bounds, which it holds in each unit. What is no whole number of the
/// unit of the bounds is for the reader to refuse.
pub(super) fn form_within(kind: Kind, bounds: &RangeInclusive<i64>) -> String {
    let unit = of_bounds(kind);
    let (min, max) = (bounds.start().unsigned_abs(), bounds.end().unsigned_abs());
    let in_units = units(kind).iter().filter_map(|(name, worth)| {
        // Part of a millisecond is a whole one.
        let least = if kind == Kind::Time && min > 0 {
            (min - 1) * unit / worth + 1
        } else {
            (min * unit).div_ceil(*worth)
        };
        let most = max * unit / worth;
        (least <= most).then(|| {
            let numbers = format!("0*(?:{})", numbers(least, most).join("|"));
            with_blanks(&numbers, &written(&(name, *worth), kind), kind)
        })
    });
    in_units.collect::<Vec<_>>().join("|")
}

fn with_blanks(number: &str, unit: &str, kind: Kind) -> String {
    if is_lenient(kind) {
        format!("\\s*{number}\\s*{unit}\\s*")
    } else {
        format!("{number}{unit}")
    }
}

fn written((name, _): &Unit, kind: Kind) -> String {
    if is_lenient(kind) {
        let either = |c: char| format!("[{c}{}]", c.to_ascii_uppercase());
        name.chars().map(either).collect()
    } else {
        (*name).to_owned()
    }
}

/// Regular expressions of all whole numbers from one to another, both included, without leading
/// zeros. Each stands for a run of numbers that differ in their last digits.
fn numbers(first: u64, last: u64) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = first;
    while from <= last {
        let (pattern, to) = lengths(from, last).unwrap_or_else(|| run(from, last));
        all.push(pattern);
        from = to + 1;
    }
    all
}

/// All numbers of one or several numbers of digits, if `from` is the first of them.
fn lengths(from: u64, last: u64) -> Option<(String, u64)> {
    let digits = from.checked_ilog10().unwrap_or(0);
    if from != 0 && from != 10_u64.pow(digits) {
        return None;
    }
    let whole = |digits: &u32| {
        10_u64
            .checked_pow(digits + 1)
            .is_some_and(|end| end - 1 <= last)
    };
    let most = (digits..19).take_while(whole).last()?;
    let pattern = match from {
        0 => format!("[0-9]{{1,{}}}", most + 1),
        _ if most == digits => format!("[1-9]{}", any(digits)),
        _ => format!("[1-9][0-9]{{{digits},{most}}}"),
    };
    Some((pattern, 10_u64.pow(most + 1) - 1))
}

/// The longest run of numbers from `from` on that have all but one digit and those behind it in
/// common.
fn run(from: u64, last: u64) -> (String, u64) {
    let fits = |behind: &u32| {
        let block = 10_u64.pow(*behind);
        from.is_multiple_of(block) && last - from >= block - 1
    };
    let behind = (0..19).take_while(fits).last().unwrap_or(0);
    let block = 10_u64.pow(behind);
    let digit = from / block % 10;
    let further = ((last - from + 1) / block - 1).min(9 - digit);
    let common = match from / block / 10 {
        0 => String::new(),
        common => common.to_string(),
    };
    let varies = match further {
        0 => digit.to_string(),
        _ => format!("[{digit}-{}]", digit + further),
    };
    let pattern = format!("{common}{varies}{}", any(behind));
    (pattern, from + (further + 1) * block - 1)
}

fn any(digits: u32) -> String {
    match digits {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        _ => format!("[0-9]{{{digits}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pattern of [`numbers`] takes a number: digits and `[a-b]`, each perhaps with
    /// `{n}` or `{n,m}` behind it.
    fn takes(pattern: &str, number: &str) -> bool {
        let Some(first) = pattern.chars().next() else {
            return number.is_empty();
        };
        let (range, rest) = if first == '[' {
            let (range, rest) = pattern[1..].split_once(']').unwrap_or_default();
            let ends: Vec<char> = range.chars().collect();
            (ends[0]..=ends[2], rest)
        } else {
            (first..=first, &pattern[1..])
        };
        let (least, most, rest) = match rest.strip_prefix('{') {
            None => (1, 1, rest),
            Some(rest) => {
                let (counts, rest) = rest.split_once('}').unwrap_or_default();
                let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
                let count = |text: &str| text.parse::<usize>().unwrap_or(0);
                (count(least), count(most), rest)
            }
        };
        (least..=most).any(|count| {
            let part = number.get(..count);
            part.is_some_and(|part| part.chars().all(|c| range.contains(&c)))
                && takes(rest, &number[count..])
        })
    }

    #[test]
    fn a_range_of_numbers_takes_those_in_it_and_no_other() {
        for first in (0..130).step_by(3) {
            for last in (first..1130).step_by(7) {
                let patterns = numbers(first, last);
                let near = [0, 1, 9, 10, 99, 100, 110, 111, 1000].into_iter();
                let ends = [first.saturating_sub(1), first, last, last + 1];
                for number in near.chain(ends) {
                    let text = number.to_string();
                    let times = patterns.iter().filter(|p| takes(p, &text)).count();
                    let wanted = usize::from((first..=last).contains(&number));
                    assert_eq!(times, wanted, "{number} in {first} to {last}: {patterns:?}");
                }
            }
        }
        assert_eq!(
            numbers(50, 600_000).join("|"),
            "[5-9][0-9]|[1-9][0-9]{2,4}|[1-5][0-9]{5}|600000"
        );
    }

    #[test]
    fn a_unit_is_found_as_it_is_written() {
        for (kind, text, found) in [
            (Kind::Time, "5s", Some((5, 1_000_000))),
            (Kind::Time, "5", Some((5, 1000))),
            (Kind::Time, "5 s", None),
            (Kind::Time, "5S", None),
            (Kind::Size, " 10 GiB ", Some((10, 1 << 30))),
            (Kind::Size, "10g", Some((10, 1 << 30))),
            (Kind::Size, "10", Some((10, 1))),
            (Kind::Memory, "10", None),
            (Kind::Memory, "10 MB", Some((10, 1_000_000))),
            (Kind::Hours, "2W", Some((2, 604_800))),
            (Kind::Hours, "GiB", None),
            (Kind::Hours, "h", None),
            (Kind::Size, "99999999999999999999 B", Some((u64::MAX, 1))),
        ] {
            assert_eq!(split(text, kind), found, "{text}");
        }
    }
}
