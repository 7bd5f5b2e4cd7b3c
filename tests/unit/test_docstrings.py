"""What public names say of themselves: short first lines, arguments and results stated, examples that run."""

import ast
import doctest
import inspect
from importlib import import_module

import pytest
from helpers.public_api import PACKAGES, _public

import unetpp_monai

FIRST_LINE = 10  # words
OTHERS = {"convert": "tests/integration/test_convert_labels.py"}  # whose example needs files
WITHOUT = {"Segmenter", "evaluate"}  # examples: their files have 300 lines
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


@pytest.mark.parametrize("name", sorted(set(unetpp_monai.__all__) - set(OTHERS)))
def test_examples_of_public_names_run(name):
    value = getattr(unetpp_monai, name)
    module = import_module(value.__module__)
    examples = [one for one in doctest.DocTestFinder().find(value, name, module=module) if one.examples]
    assert bool(examples) == (name not in WITHOUT)
    for example in examples:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
