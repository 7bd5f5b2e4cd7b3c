"""What a user of Slicer's modules reads can be translated."""

import ast
import re

import pytest
from helpers import ROOT

SCRIPTS = sorted((ROOT / "unetpp_monai" / "slicer").rglob("*.py"))
SHOWN = {"text", "toolTip", "helpText", "comment"}  # attributes of widgets and of what they show
WIDGETS = {"QPushButton", "QCheckBox", "QLabel", "addLabeledOptionsWidget"}


def words_of(tree):
    """Strings of a module's errors and widgets, each with whether it goes through `_`, and what `_` is given."""
    shown = {id(part) for call in calls(tree, "_") for part in ast.walk(call)}
    for call in calls(tree, "SegmentationError"):
        for part in ast.walk(call):
            if isinstance(part, ast.Constant) and re.search(r"[a-z] | [a-z]", str(part.value)):
                yield id(part) in shown, part.value
    for node in ast.walk(tree):
        for value, pattern in seen_by_users(node):
            for part in ast.walk(value):
                if isinstance(part, ast.Constant) and re.search(pattern, str(part.value)):
                    yield id(part) in shown, part.value
    for call in calls(tree, "_"):
        yield isinstance(call.args[0], ast.Constant), ast.unparse(call)


def seen_by_users(node):
    """What a widget is given to show: of a text that code computes only its sentences count."""
    if isinstance(node, ast.Assign) and {getattr(target, "attr", "") for target in node.targets} & SHOWN:
        yield node.value, "[a-z] | [a-z]"
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in WIDGETS:
        yield from ((argument, "[A-Za-z]") for argument in node.args if isinstance(argument, ast.Constant))


def calls(tree, name):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_users_read_can_be_translated(path):
    """Errors and widgets' texts go through `_`, which gets whole sentences: an f-string could not be looked up."""
    assert [text for translated, text in words_of(ast.parse(path.read_text())) if not translated] == []


@pytest.mark.parametrize(
    "wrong",
    [
        'raise SegmentationError(f"no {thing} here")',
        '_(f"a {b}")',
        'self.button = qt.QPushButton("Apply")',
        'self.box.toolTip = "Only its inside changes."',
    ],
)
def test_what_is_not_translated_is_seen(wrong):
    assert False in [translated for translated, _ in words_of(ast.parse(wrong))]
