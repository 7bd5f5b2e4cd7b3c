"""What public names say of themselves: short first lines, arguments and results stated, examples that run."""

import ast
import doctest
import inspect
from importlib import import_module

import numpy as np
import pytest
from helpers import phantom
from helpers.dicom_phantoms import axial_affine, label_phantom, make_series
from helpers.interactive import tiny_interactive
from helpers.public_api import PACKAGES, _public

from unetpp_monai import Volume, write_nifti
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.io.label_table import write_label_table
from unetpp_monai.labels import Label

FIRST_LINE = 10  # words
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


@pytest.mark.parametrize("value", FUNCTIONS, ids=lambda value: value.__name__)
def test_functions_state_arguments_results_and_errors(value):
    docstring, (tree,) = inspect.getdoc(value), ast.parse(inspect.getsource(value)).body
    if inspect.signature(value).parameters:
        assert "Args:" in docstring
    if inspect.signature(value).return_annotation is not None:
        assert "Returns:" in docstring or "Yields:" in docstring
    if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree)):
        assert "Raises:" in docstring


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that examples name."""
    folder = tmp_path_factory.mktemp("examples")
    write_nifti(Volume(phantom((22, 30, 20))[0][None], np.eye(4)), folder / "hippocampus.nii.gz")
    tiny_interactive(folder / "made").rename(folder / "interactive_bundle")
    make_series(folder / "series", axial_affine(), (14, 12, 6))
    image = read_dicom_series(folder / "series").volume
    labels = Volume((label_phantom(image.shape, image.affine).array > 0).astype(np.uint8), image.affine)
    for path in ("case_seg.nii.gz", "predictions/case_seg.nii.gz", "references/case.nii.gz"):
        (folder / path).parent.mkdir(exist_ok=True)
        write_nifti(labels, folder / path)
    write_label_table([Label(1, "kidney", None, None, (), None)], folder / "case_seg.tsv")
    return folder


@pytest.mark.parametrize("value", NAMES, ids=lambda value: value.__name__)
def test_examples_of_public_names_run(value, files, monkeypatch):
    monkeypatch.chdir(files)
    module = import_module(value.__module__)
    finder = doctest.DocTestFinder()
    examples = [one for one in finder.find(value, value.__name__, module=module) if one.examples]
    assert examples
    for example in examples:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
