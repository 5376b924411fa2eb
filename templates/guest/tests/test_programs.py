"""The programs as files: how they are started, what they import, and those that import nothing."""

from __future__ import annotations

import ast
import bz2
import importlib.util
import json
import marshal
import pathlib
import subprocess
import sys
import tempfile
import types

import pytest

from conftest import GUARD, GUEST, Files, HaproxySocket
from samples import UP, stat

PROGRAMS = [*GUEST.glob("*.py"), *GUEST.glob("lbctl_guest/*.py")]
REAL_RUN = subprocess.run


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), GUEST / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Level and name of what is imported at run time."""
    found: list[tuple[int, str]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
        found += imports(node)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(program: pathlib.Path) -> None:
    text = program.read_text(encoding="utf-8")
    alone = program.name in ("receive.py", "wait.py")
    for level, name in imports(ast.parse(text)):
        top = name.split(".")[0]
        ours = level > 0 or top == "lbctl_guest"
        assert (ours and not alone) or top in sys.stdlib_module_names, name
        if program.name != "wire.py":
            assert name not in ("wire", "typing"), f"{name}: a slow guest takes long to read it"
    assert "Python 3.10" in " ".join((ast.get_docstring(ast.parse(text)) or "").split()), (
        program.name
    )


def guest(*arguments: str) -> subprocess.CompletedProcess[str]:
    GUARD.may_start = True
    python = [sys.executable, "-SB", str(GUEST / "lbctl-guest.py"), *arguments]
    return REAL_RUN(python, capture_output=True, text=True, check=False)


def test_the_usage_names_every_command() -> None:
    done = guest()
    commands = load("lbctl-guest").COMMANDS
    assert done.returncode == 2
    listed = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("  ")]
    assert set(commands) <= set(listed)


@pytest.mark.parametrize("argv", [["apply"], ["status", "x"], ["--help"]])
def test_an_unknown_command_does_nothing(argv: list[str]) -> None:
    assert load("lbctl-guest").main(argv) == 2


def test_every_command_is_a_function() -> None:
    for module, function in load("lbctl-guest").COMMANDS.values():
        found = importlib.import_module(f"lbctl_guest.{module}")
        assert callable(getattr(found, function))


def test_the_shebang_is_what_the_units_rely_on() -> None:
    first = (GUEST / "lbctl-guest.py").read_text(encoding="utf-8").splitlines()[0]
    assert first == "#!/usr/bin/python3 -SB"


# ---- what is compiled is kept


@pytest.fixture
def entry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    entry = load("lbctl-guest")
    monkeypatch.setattr(entry, "COMPILED", str(tmp_path / "run/lbctl-compiled"))
    monkeypatch.setattr(entry, "SETTINGS", str(tmp_path / "guest.json"))
    monkeypatch.setattr(entry.sys, "path_hooks", [])
    monkeypatch.setattr(entry.os, "geteuid", lambda: 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "x.py").write_text("answer = 1", encoding="utf-8")
    return entry


def answer(entry: types.ModuleType, path: pathlib.Path) -> object:
    seen: dict[str, object] = {}
    code = entry.Loader("lbctl_guest.x", str(path)).get_code("lbctl_guest.x")
    # Where it was unpacked may be gone when it is told in a traceback.
    assert code.co_filename in ("/usr/local/lib/lbctl/lbctl_guest/x.py", "planted")
    exec(code, seen)
    return seen["answer"]


def test_what_is_compiled_is_kept_by_what_it_was_compiled_from(
    entry: types.ModuleType, tmp_path: pathlib.Path
) -> None:
    program, kept = tmp_path / "x.py", pathlib.Path(entry.COMPILED)
    entry.keep_compiled()
    assert not kept.exists(), "this is no guest"
    assert not entry.sys.path_hooks

    (tmp_path / "guest.json").touch()
    entry.keep_compiled()
    entry.keep_compiled()
    assert kept.stat().st_mode & 0o7777 == 0o700
    assert answer(entry, program) == 1
    (first,) = kept.iterdir()
    whole = first.read_bytes()
    first.write_bytes(marshal.dumps(compile("answer = 'kept'", "planted", "exec")))
    assert answer(entry, program) == "kept"

    # As long as before, and in the same second.
    program.write_text("answer = 2", encoding="utf-8")
    assert answer(entry, program) == 2
    assert len(list(kept.iterdir())) == 2
    program.write_text("answer = 1", encoding="utf-8")
    for length in range(len(whole)):
        first.write_bytes(whole[:length])
        assert answer(entry, program) == 1
        assert first.read_bytes() == whole


def test_what_cannot_be_kept_is_compiled(
    entry: types.ModuleType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = pathlib.Path(entry.COMPILED)
    (tmp_path / "guest.json").touch()
    kept.write_text("no folder", encoding="utf-8")
    entry.keep_compiled()
    assert answer(entry, tmp_path / "x.py") == 1
    assert kept.is_file()
    monkeypatch.setattr(entry.os, "geteuid", lambda: 1)
    monkeypatch.setattr(entry.sys, "path_hooks", [])
    entry.keep_compiled()
    assert entry.sys.path_hooks == [], "others than root run nothing that is kept"


def test_no_sandbox_may_write_what_others_run() -> None:
    kept = pathlib.PurePath(load("lbctl-guest").COMPILED)
    units = [*GUEST.parent.glob("*.service"), *GUEST.parent.glob("*.conf")]
    keys = ("ReadWritePaths=", "RuntimeDirectory=", "BindPaths=")
    lines = [line for unit in units for line in unit.read_text(encoding="utf-8").splitlines()]
    given = [word for line in lines if line.startswith(keys) for word in line.split("=")[1].split()]
    folders = [pathlib.PurePath("/run") / word.lstrip("-+") for word in given]
    assert pathlib.PurePath("/run/lbctl") in folders
    assert [folder for folder in folders if kept.is_relative_to(folder)] == []


def test_only_lbctls_own_modules_are_kept(entry: types.ModuleType) -> None:
    folder = GUEST / "lbctl_guest"
    assert entry.finder(str(folder)).path == str(folder)
    for other in (str(GUEST), "/usr/lib/python3", f"{folder}/more"):
        with pytest.raises(ImportError):
            entry.finder(other)


# ---- receive.py


def test_the_programs_are_unpacked_with_their_folders(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = load("receive")
    files.path("/run").mkdir(exist_ok=True)
    # What the spec brings is not sent twice, but where it is of another lbctl.
    brought = {
        "/usr/local/lib/lbctl/lbctl_guest/tools.py": "tools",
        "/usr/local/lib/lbctl/lbctl-guest": "older",
        "/usr/local/lib/lbctl.conf": "no program",
    }
    task = {
        "programs": {"lbctl-guest": "entry"},
        "spec": {"files": [{"path": p, "content": text} for p, text in brought.items()]},
    }
    seen: dict[str, object] = {}

    def run_path(entry: str, run_name: str) -> None:
        place = pathlib.Path(entry).parent
        seen.update(place=place, argv=sys.argv, path=sys.path[0], task=json.load(sys.stdin))
        assert run_name == "__main__"
        assert place.parent == files.path("/run")
        for path in (place, place / "lbctl_guest"):
            assert path.stat().st_mode & 0o077 == 0
        assert pathlib.Path(entry).read_text(encoding="utf-8") == "entry"
        assert (place / "lbctl_guest/tools.py").read_text(encoding="utf-8") == "tools"
        unpacked = [path.name for path in place.rglob("*") if path.is_file()]
        assert sorted(unpacked) == ["lbctl-guest", "tools.py"]
        raise SystemExit(1)

    class Stdin:
        class buffer:
            read = staticmethod(lambda: bz2.compress(json.dumps(task).encode()))

    real_folder = tempfile.TemporaryDirectory

    def folder(prefix: str, dir: str) -> tempfile.TemporaryDirectory[str]:
        assert (prefix, dir) == ("lbctl-", "/run")
        return real_folder(prefix=prefix, dir=files.path(dir))

    umasks: list[int] = []
    monkeypatch.setattr(receive.runpy, "run_path", run_path)
    monkeypatch.setattr(receive.tempfile, "TemporaryDirectory", folder)
    for name, value in {"stdin": Stdin, "argv": [], "path": list(sys.path)}.items():
        monkeypatch.setattr(receive.sys, name, value)
    real_umask = receive.os.umask
    monkeypatch.setattr(receive.os, "umask", lambda mask: umasks.append(real_umask(mask)))
    try:
        with pytest.raises(SystemExit) as ended:
            receive.main()
    finally:
        real_umask(umasks[0])
    assert ended.value.code == 1
    place = pathlib.Path(str(seen["place"]))
    assert seen["argv"] == [str(place / "lbctl-guest"), "converge"]
    assert seen["path"] == str(place)
    assert seen["task"] == task
    assert not place.exists()


# ---- wait.py


@pytest.fixture
def wait(files: Files, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = load("wait")
    for name in ("CLOUD_INIT", "ADMIN_SOCKET"):
        monkeypatch.setattr(module, name, files.root + getattr(module, name))
    return module


def test_waiting_ends_with_a_primary_after_cloud_init(
    files: Files, admin_socket: HaproxySocket, wait: types.ModuleType
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    assert wait.wait(0, 0)["cloud_init"]["status"] == "not started"
    files.put("/run/cloud-init/status.json", '{"v1": {"init": {"errors": []}}}')
    assert wait.wait(0, 0) == {
        "cloud_init": {"status": "running", "errors": []},
        "ready": False,
        "haproxy": {"servers_up": 0, "primary": None},
    }
    files.put("/run/cloud-init/result.json", "{}")
    assert wait.wait(0, 60) == {
        "cloud_init": {"status": "done", "errors": []},
        "ready": True,
        "haproxy": {"servers_up": 1, "primary": "10.77.0.12"},
    }


def test_waiting_ends_with_an_error_of_cloud_init(files: Files, wait: types.ModuleType) -> None:
    files.put("/run/cloud-init/status.json", '{"v1": {"init": {"errors": ["no space"]}}}')
    assert wait.wait(0, 60)["cloud_init"] == {"status": "error", "errors": ["no space"]}


def test_waiting_reads_no_answer_without_an_end(
    admin_socket: HaproxySocket, wait: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = stat(UP, *["primary,x,0,DOWN,5,,,," + "y" * 1000 + "," for _ in range(5000)])
    admin_socket.answers["show stat"] = long
    assert wait.primaries() == []
    monkeypatch.setattr(wait, "MOST", 2 * len(long))
    assert wait.primaries() == ["10.77.0.12"]


def test_waiting_has_a_deadline_for_an_answer(
    dripping_socket: HaproxySocket, wait: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "PATIENCE", 0.3)
    assert wait.primaries() == []


def test_a_line_ends_at_a_line_feed_and_nowhere_else() -> None:
    """`splitlines` knows ten other ends, some of which a node or a key may have in its text."""
    for program in PROGRAMS:
        assert ".splitlines(" not in program.read_text(encoding="utf-8"), program.name


def test_both_readers_of_the_table_agree(wait: types.ModuleType) -> None:
    status = importlib.import_module("lbctl_guest.status")
    for text in (stat(UP), stat(UP, UP.replace("12:0", "13:0")), stat(), "", '"'):
        up = [s["address"] for s in status.servers(text) if s["state"] == "UP"]
        assert wait.up(text) == up
