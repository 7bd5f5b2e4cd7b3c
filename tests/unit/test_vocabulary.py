"""SNOMED CT terms that are proposed for names of labels."""

import pytest

from unetpp_monai.dicom.vocabulary import proposed_code


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("liver", "Liver"),
        ("Left atrium", "Left atrium"),
        ("left_kidney", "Kidney"),  # the side is no part of the term
        ("kidney R", "Kidney"),
        ("banana", None),
        ("", None),
        ("dir", None),  # a method of pydicom's dictionary, not a term
    ],
)
def test_terms_are_found_by_name(name, meaning):
    code = proposed_code(name)
    assert (code and code.meaning) == meaning and (code is None or code.scheme == "SCT")
