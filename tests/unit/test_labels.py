"""Meaning of label indices."""

import json

import pytest
from helpers import BUNDLE, ROOT

from unetpp_monai.errors import BundleError
from unetpp_monai.labels import Code, read_labels


def metadata(**codes):
    return {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "a"}}}}, **codes}


def test_labels_of_the_hippocampus():
    labels = read_labels(json.loads((BUNDLE / "configs" / "metadata.json").read_text()))
    assert [(label.index, label.name) for label in labels] == [
        (1, "anterior hippocampus"),
        (2, "posterior hippocampus"),
    ]
    assert [label.type.value for label in labels] == ["5366008", "5366008"]
    assert [[code.meaning for code in label.modifiers] for label in labels] == [["Anterior"], ["Posterior"]]
    assert all(len(label.colour) == 3 for label in labels)


@pytest.mark.parametrize(
    "path",
    [BUNDLE / "configs", *sorted(path.parent for path in (ROOT / "configs").glob("*/metadata.json"))],
    ids=lambda path: path.name,
)
def test_codes_are_those_of_dicoms_dictionary(path):
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    for label in read_labels(json.loads((path / "metadata.json").read_text())):
        for code in (label.category, label.type, *label.modifiers):
            if code is not None:
                known = getattr(codes.SCT, code.meaning.title().replace(" ", ""))
                assert (known.value, known.meaning.lower()) == (code.value, code.meaning.lower())


def test_modifiers_are_a_list_or_as_in_older_bundles_one():
    left, front = ({"value": value, "scheme": "SCT", "meaning": value} for value in ("7771000", "255549009"))
    for entry, wanted in (({"modifiers": [left, front]}, [left, front]), ({"modifier": left}, [left]), ({}, [])):
        (label,) = read_labels(metadata(label_codes={"1": entry}))
        assert label.modifiers == tuple(Code(**code) for code in wanted)


def test_codes_are_optional_but_must_belong_to_a_label():
    (label,) = read_labels(metadata())
    assert (label.index, label.name, label.type, label.colour) == (1, "a", None, None)
    with pytest.raises(BundleError, match=r"label_codes must belong to labels that are named, got \['7'\]"):
        read_labels(metadata(label_codes={"7": {}}))
    with pytest.raises(BundleError, match="metadata must name the labels"):
        read_labels({})


@pytest.mark.parametrize(
    "entry", [{"type": {"value": "1", "scheme": "SCT"}}, {"colour": "#ff0000"}, {"colour": [1, 2]}, {"colour": 7}]
)
def test_parts_of_another_form_are_named(entry):
    with pytest.raises(BundleError, match="labels must have whole numbers, codes of value, scheme and meaning"):
        read_labels(metadata(label_codes={"1": entry}))
