"""Calls that only POSIX systems have stand where they are known, each with what Windows gets."""

import ast

import pytest
from helpers import ROOT

PACKAGE = ROOT / "unetpp_monai"
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
NAMES = {
    *("fork", "getuid", "geteuid", "kill", "killpg", "mkfifo", "register_at_fork", "sched_getaffinity", "setsid"),
    *("sysconf", "statvfs", "SIGKILL", "pass_fds", "preexec_fn"),
}
KNOWN = {  # file -> what Windows gets
    "files.py": "no locks: what a killed process left stays",
    "memory.py": "no limits are known: nothing is refused for want of memory",
    "planning/budget.py": "an error that asks for --memory",
    "cohort/launch.py": "all cores",
    "cohort/local.py": "no cohorts: workers get pipes by number",
    "annotation/shim/sitecustomize.py": "no annotation server, which MONAI Label starts by these",
    "slicer/UNetPlusPlus/UNetPlusPlusLib/process.py": "the process alone is ended, not its children",
}


def calls_of(source):
    """POSIX-only modules and names that a source uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "signal"):
            yield from {node.attr} & NAMES
        elif isinstance(node, ast.keyword):
            yield from {node.arg} & NAMES


def test_posix_calls_stand_where_they_are_known():
    using = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if any(calls_of(path.read_text()))}
    assert using == set(KNOWN)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    from resource import getrlimit", ["resource"]),
        ("import os\nos.fork()", ["fork"]),
        ("subprocess.run(x, pass_fds=[3])", ["pass_fds"]),
        ("import os\nos.getpid()", []),
    ],
)
def test_a_posix_call_is_seen(source, found):
    assert list(calls_of(source)) == found
