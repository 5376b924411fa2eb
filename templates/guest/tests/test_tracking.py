"""Room in the kernel's table of tracked connections."""

from __future__ import annotations

import pytest

from conftest import Files
from lbctl_guest import tracking
from lbctl_guest.tracking import AFTER_THE_END, MOST

MEMINFO = "MemTotal:         786432 kB\nMemFree:           1024 kB\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # As the kernel has them by itself in a guest of 768 MiB.
        (("6144", "120"), ("98304", "30")),
        (("262144", "120"), ("262144", "30")),
        (("6144", "10"), ("98304", "10")),
    ],
)
def test_there_is_room(before: tuple[str, str], after: tuple[str, str], files: Files) -> None:
    files.put("/proc/meminfo", MEMINFO)
    for path, text in zip((MOST, AFTER_THE_END), before, strict=True):
        files.put(path, text + "\n")
    for _ in range(2):
        tracking.make_room()
        assert tuple(files.text(path).strip() for path in (MOST, AFTER_THE_END)) == after


def test_where_nothing_is_tracked_nothing_is_set(files: Files) -> None:
    files.put("/proc/meminfo", MEMINFO)
    tracking.make_room()
    assert not files.has(MOST)


def test_without_a_known_size_of_memory_nothing_is_lowered(files: Files) -> None:
    files.put(MOST, "6144\n")
    tracking.make_room()
    assert files.text(MOST) == "6144\n"
