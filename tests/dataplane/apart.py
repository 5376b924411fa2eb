"""Stories of one program, each in a process and in namespaces of its own, several at once: they mostly wait."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time
import unittest

from guest import LOG

# Marks, behind the program's own arguments, the process that one story is alone in.
ALONE = "--alone"
# More would not find the processor, and what is told of them counts in fractions of a second.
AT_ONCE = 8


def tell(program, given, stories, at_once=AT_ONCE):
    """Starts `program` for each of the stories with the arguments `given` and its name, prints what each said, and ends with
    exit code 1 if one failed."""
    unshare = ["unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "/usr/bin/python3", "-B",
               program, *given, ALONE]

    def run(story):
        began = time.monotonic()
        done = subprocess.run([*unshare, story], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                              check=False)
        return done, time.monotonic() - began
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for story, (done, took) in zip(stories, pool.map(run, stories), strict=True):
            failed += done.returncode != 0
            verdict = "FAILED" if done.returncode else "ok"
            print("%s %s (%.1f s): %s" % (verdict, story, took, done.stdout.strip()), flush=True)
    sys.exit(1 if failed else 0)


def tests_of(case):
    return unittest.defaultTestLoader.getTestCaseNames(case)


def test(case, name):
    """Of a unittest.TestCase, this one test. If it fails, the end of HAProxy's log is printed too."""
    done = unittest.TextTestRunner(stream=sys.stdout, warnings="ignore").run(case(name))
    if not done.wasSuccessful() and os.path.exists(LOG):
        print(pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace")[-6000:])
    sys.exit(0 if done.wasSuccessful() else 1)
