"""Calls that only POSIX systems have stand in one module, which says what Windows gets; `make lint` asks mypy too."""

import ast
import inspect
import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

from unetpp_monai import posix_only
from unetpp_monai.posix_only import cores, installed_memory, was_killed

PACKAGE = ROOT / "unetpp_monai"
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
NAMES = {
    *("fork", "getuid", "geteuid", "kill", "killpg", "mkfifo", "register_at_fork", "sched_getaffinity", "setsid"),
    *("sysconf", "statvfs", "SIGKILL", "TCP_QUICKACK", "pass_fds", "preexec_fn"),
}
APART = {  # run without the package
    "annotation/shim/sitecustomize.py",
    "slicer/UNetPlusPlus/UNetPlusPlusLib/process.py",
}
AS_ON_WINDOWS = """
import json, multiprocessing.connection, os, pathlib, socket, subprocess, sys
import unetpp_monai.errors
sys.platform = "win32"
for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("register_at_fork", "sched_getaffinity", "sysconf", "sysconf_names"):
    delattr(os, name)
from unetpp_monai import posix_only as ours
with ours.locked(pathlib.Path("nowhere"), alone=True) as held:
    got = {"locked": held}
got["unused_memory"], got["installed_memory"] = ours.unused_memory(), ours.installed_memory()
got["address_space_limit"], got["was_killed"] = ours.address_space_limit(), ours.was_killed(-9)
got["cores"] = ours.cores()
got["acknowledge_at_once"] = ours.acknowledge_at_once(None)
try:
    ours.start_with_pipe([sys.executable], 0, {})
except unetpp_monai.errors.InputError as error:
    got["start_with_pipe"] = str(error)
print(json.dumps(got))
"""


def calls_of(source):
    """POSIX-only modules and names that a source uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            ours = isinstance(node, ast.ImportFrom) and node.level
            yield from (name for name in names if name.split(".")[0] in MODULES and not ours)
            if isinstance(node, ast.ImportFrom) and node.module in ("os", "signal", "socket"):
                yield from {alias.name for alias in node.names} & NAMES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from {node.attr} & NAMES if node.value.id in ("os", "signal", "socket") else ()
        elif isinstance(node, ast.keyword):
            yield from {node.arg} & NAMES


def test_posix_calls_stand_in_one_module():
    using = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if any(calls_of(path.read_text()))}
    assert using == {"posix_only.py", *APART}


def test_each_says_what_windows_gets_and_windows_gets_it():
    functions = inspect.getmembers(posix_only, inspect.isfunction)
    public = {
        name: entry.__doc__
        for name, entry in functions
        if entry.__module__ == posix_only.__name__ and not name.startswith("_")
    }
    assert [name for name, text in public.items() if "\n\n    Windows" not in text] == []
    run = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "locked": False,
        "unused_memory": None,
        "installed_memory": None,
        "address_space_limit": None,
        "was_killed": False,
        "cores": os.cpu_count(),
        "acknowledge_at_once": None,
        "start_with_pipe": "workers must be 0 on Windows, got some; segment in one process",
    }
    assert public.keys() == json.loads(run.stdout).keys()


def test_here_the_system_answers():
    assert cores() == len(os.sched_getaffinity(0))
    assert installed_memory() > 1 << 28
    assert was_killed(-9) and not was_killed(9) and not was_killed(-15)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    from resource import getrlimit", ["resource"]),
        ("import os\nos.fork()", ["fork"]),
        ("from os import fork", ["fork"]),
        ("subprocess.run(x, pass_fds=[3])", ["pass_fds"]),
        ("import os\nos.getpid()", []),
        ("from .resource import a", []),
    ],
)
def test_a_posix_call_is_seen(source, found):
    assert list(calls_of(source)) == found
