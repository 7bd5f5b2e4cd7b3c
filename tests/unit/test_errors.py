"""Errors speak to a Python user; the command line adds its flag."""

import ast
import errno
import os
import pickle
import re
from itertools import pairwise

import pytest
from helpers import ROOT
from typer.main import get_command

from unetpp_monai.cli import app, main
from unetpp_monai.cli.common import FLAGS, message_of
from unetpp_monai.errors import LONGEST, InputError, OutputError, cause_of

PACKAGE = ROOT / "unetpp_monai"
DOORS = ("cli", "slicer")  # which know command lines
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in DOORS]
FLAG = re.compile(r"(?<![\w-])--[a-z]")


def texts_of(tree):
    """Every text of a module but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_text(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def is_text(node):
    return bool(node.body) and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def options_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
            options = (one.value for one in node.keywords if one.arg == "option")
            yield from (one.value for one in options if isinstance(one, ast.Constant))  # others are passed on


def flags_of(command):
    for one in getattr(command, "commands", {}).values():
        yield from flags_of(one)
    for option in command.params:
        yield from option.opts


def test_no_text_of_the_library_names_a_flag():
    named = [
        f"{path}:{line}: {text}"
        for path in LIBRARY
        for line, text in texts_of(ast.parse(path.read_text()))
        if FLAG.search(text)
    ]
    assert named == []
    assert [text for _, text in texts_of(ast.parse('"""Doc."""\nf(f"{x} exists; --overwrite")')) if FLAG.search(text)]


def test_every_option_that_is_a_way_out_has_a_flag():
    used = {option for path in LIBRARY for option in options_of(ast.parse(path.read_text()))}
    assert used == set(FLAGS)
    assert set(FLAGS.values()) <= set(flags_of(get_command(app)))


def test_the_command_line_adds_the_flag():
    assert message_of(OutputError("out exists", option="overwrite")) == "out exists (--overwrite)"
    assert message_of(InputError("no")) == "no" and message_of(MemoryError()) == "MemoryError"


def test_an_error_keeps_its_option_between_processes():
    error = pickle.loads(pickle.dumps(OutputError("out exists", option="overwrite")))
    assert (str(error), error.option) == ("out exists", "overwrite")


def test_a_user_reads_the_flag(tmp_path, monkeypatch, capsys):
    for name in ("predictions", "references"):
        (tmp_path / name).mkdir()
    (tmp_path / "report.json").touch()
    arguments = [tmp_path / "predictions", tmp_path / "references", "-o", tmp_path / "report.json"]
    monkeypatch.setattr("sys.argv", ["unetpp", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("report.json exists; choose another place or allow overwriting (--overwrite)")


def test_what_an_input_is_refused_for_is_one_short_line():
    error = InputError(f"UIDs must be alike, got a\nb {'9' * 5000}; name one", option="series")
    assert "\n" not in str(error) and len(str(error)) <= LONGEST and error.option == "series"
    assert str(error).startswith("UIDs must be alike, got a b 999") and str(error).endswith("; name one")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_cause_of_an_error_is_found_behind_those_of_monai():
    def chain(*errors):
        for outer, inner in pairwise(errors):
            outer.__cause__ = inner
        return errors[0]

    ours, theirs = InputError("no"), KeyError("x")
    assert cause_of(chain(RuntimeError("applying"), RuntimeError("again"), ours, theirs)) is ours
    assert cause_of(chain(RuntimeError("applying"), theirs)) is theirs
    assert cause_of(theirs) is theirs


def test_an_error_of_a_file_is_one_line(monkeypatch, capsys):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.pt")

    monkeypatch.setattr("unetpp_monai.cli.app", full)
    with pytest.raises(SystemExit, match="1"):
        main()
    said = "error: files must be readable and writable, got No space left on device for model.pt\n"
    assert capsys.readouterr().err == said
