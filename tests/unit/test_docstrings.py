"""What public names say of themselves: short first lines, arguments and results stated, examples that run."""

import ast
import doctest
import inspect
from importlib import import_module

import pytest
from helpers.public_api import PACKAGES, _public

FIRST_LINE = 10  # words
OTHERS = {"convert": "tests/integration/test_convert_labels.py"}  # whose example needs files
WITHOUT = {"Segmenter", "evaluate", "evaluated_depth"}  # examples: their files have 300 lines
WITHOUT |= {"AnytimeNetwork", "ClickServer", "Session", "serve"}  # a protocol, servers, and what needs clicks
SHORT = {"evaluate", "evaluated_depth"}  # arguments and results, for the same reason
NAMES = {
    value: name
    for package in PACKAGES
    for name, value in _public(package)
    if getattr(value, "__module__", "").startswith("unetpp_monai")
    and (inspect.isfunction(value) or inspect.isclass(value))
}
FUNCTIONS = [value for value in NAMES if inspect.isfunction(value)]


@pytest.mark.parametrize("value", NAMES, ids=NAMES.values())
def test_first_lines_are_short(value):
    first = inspect.getdoc(value).splitlines()[0]
    assert len(first.split()) <= FIRST_LINE, first


@pytest.mark.parametrize(
    "value", [one for one in FUNCTIONS if NAMES[one] not in SHORT], ids=lambda value: value.__name__
)
def test_functions_state_arguments_results_and_errors(value):
    docstring, (tree,) = inspect.getdoc(value), ast.parse(inspect.getsource(value)).body
    if inspect.signature(value).parameters:
        assert "Args:" in docstring
    if inspect.signature(value).return_annotation is not None:
        assert "Returns:" in docstring or "Yields:" in docstring
    if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree)):
        assert "Raises:" in docstring


@pytest.mark.parametrize("value", [one for one in NAMES if NAMES[one] not in OTHERS], ids=lambda value: value.__name__)
def test_examples_of_public_names_run(value):
    module = import_module(value.__module__)
    finder = doctest.DocTestFinder()
    examples = [one for one in finder.find(value, value.__name__, module=module) if one.examples]
    assert bool(examples) == (value.__name__ not in WITHOUT)
    for example in examples:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
