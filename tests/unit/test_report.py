"""The report of a case, by its published schema, and the same in the DICOM objects."""

import json
import math

import jsonschema
import numpy as np
import pydicom
import pytest
from helpers import phantom
from helpers.dicom_checks import errors_of
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.reports import SCHEMA, valid_report

from unetpp_monai import Segmenter
from unetpp_monai.inference import UNCERTAINTIES
from unetpp_monai.runtimes.backend import PRECISIONS, RUNTIMES
from unetpp_monai.workflows.outputs import FORMATS
from unetpp_monai.workflows.report import SCHEMA as VERSION
from unetpp_monai.workflows.report import _round_ml
from unetpp_monai.workflows.request import Request
from unetpp_monai.workflows.segment import segment_case

ALL = ("nifti", "segnrrd", "dicomseg", "rtstruct", "sr")


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    array = phantom()[0]

    def pixels(dataset, index):
        dataset.PixelData = np.ascontiguousarray(array[:, :, index].T.astype(np.uint16)).tobytes()

    folder = tmp_path_factory.mktemp("dicom") / "brain"
    make_series(folder, axial_affine((1.0, 1.0, 1.0)), array.shape, change=pixels)
    return folder


def reported(segmenter, case, folder, **options):
    """The result, and its report."""
    folder.mkdir(exist_ok=True)
    result = segment_case(segmenter, case, folder, Request(**options))
    (path,) = folder.glob("*.json")
    return result, valid_report(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1, "uncertainty": True},
        {"depth": "full", "uncertainty": True},
        {"depth": "auto", "uncertainty": True, "mirror_axes": (0,)},
    ],
    ids=str,
)
def test_reports_of_a_file_are_as_published(segmenter, image_file, tmp_path, options):
    result, report = reported(segmenter, image_file, tmp_path / "out", **options)
    assert (report["depth"], report["mirror_axes"]) == (result.depth, list(options.get("mirror_axes", ())))
    assert report["exit_thresholds"] == ([0.0, 0.03161] if result.depth == "auto" else [])
    assert report["config_sha256"] == result.config_sha256 == segmenter.bundle.config_sha256
    assert "series" not in report
    assert (report["score"] is None) is (options.get("depth") != "full")


@pytest.mark.slow
def test_reports_of_dicom_are_as_published(segmenter, brain, tmp_path):
    options = {"formats": ALL, "uncertainty": True}
    _, report = reported(segmenter, brain, tmp_path / "a", **options)
    assert set(report["outputs"]) == set(ALL) and report["remarks"] == []
    (tmp_path / "b").mkdir()
    segment_case(segmenter, brain, tmp_path / "b", Request(**options, key=bytes(range(32))))
    (path,) = (tmp_path / "b").glob("*.json")
    hidden = valid_report(path)
    assert set(report) - set(hidden) == {"input", "input_state", "input_sha256", "series"} and "input_hmac" in hidden


@pytest.mark.slow
def test_what_decides_a_voxel_is_in_every_object(segmenter, brain, tmp_path):
    """Two results that differ by an option of the command line can be told apart by any one file of them."""
    options = {"formats": ALL, "depth": "auto", "mirror_axes": (0, 2)}
    result, report = reported(segmenter, brain, tmp_path / "out", **options)
    assert result.labels.array.any()
    expected = {
        "depth": "auto",
        "exit_thresholds": "0.0 0.03161",
        "mirror_axes": "0 2",
        "runtime": "eager",
        "precision": "float32",
        "weights_sha256": report["weights_sha256"],
        "config_sha256": report["config_sha256"],
    }
    seg, rtstruct, sr = (tmp_path / "out" / f"brain_{kind}.dcm" for kind in ("seg", "rtstruct", "sr"))
    (identification,) = pydicom.dcmread(seg).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    (derivation,) = pydicom.dcmread(rtstruct).StructureSetROISequence[0].ROIDerivationAlgorithmIdentificationSequence
    for text in (identification.AlgorithmParameters, derivation.AlgorithmParameters):
        stated = dict(parameter.split("=") for parameter in text.split(","))
        assert {name: stated[name] for name in expected} == expected and len(text) < 10240  # LT
    texts = [str(element.value) for element in pydicom.dcmread(sr).iterall() if element.keyword == "TextValue"]
    assert any(all(f"{name}={value}" in text.split("; ") for name, value in expected.items()) for text in texts)
    for path in (seg, rtstruct, sr):
        assert errors_of("dciodvfy", path) == []


@pytest.mark.slow
def test_without_options_none_is_stated(segmenter, brain, tmp_path):
    reported(segmenter, brain, tmp_path / "out", formats=("dicomseg",), depth=1)
    segment = pydicom.dcmread(tmp_path / "out" / "brain_seg.dcm").SegmentSequence[0]
    text = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert text.startswith("depth=1,exit_thresholds=none,mirror_axes=none,")


def test_an_unknown_key_and_a_missing_one_are_refused(segmenter, image_file, tmp_path):
    _, report = reported(segmenter, image_file, tmp_path / "out", depth=1)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    optional = {"input", "input_state", "input_sha256", "input_hmac", "series", "other_channels", "remarks"}
    optional |= {"prompts"}
    assert set(report) == set(SCHEMA["required"]) | {"input", "input_state", "input_sha256"}
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) | optional
    for part in (report, report["outputs"], report["outputs"]["nifti"]["read_back"], report["seconds"]):
        part["colour"] = 1
        assert not validator.is_valid(report)
        del part["colour"]
    for name in SCHEMA["required"]:
        assert not validator.is_valid({key: value for key, value in report.items() if key != name}), name
    assert validator.is_valid(report)


def test_the_schema_is_one_and_says_what_every_key_is():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == VERSION and SCHEMA["$id"].endswith(f":{VERSION}")
    assert all(entry.get("description") for entry in SCHEMA["properties"].values())
    assert SCHEMA["properties"]["runtime"]["enum"] == list(RUNTIMES)
    assert SCHEMA["properties"]["precision"]["enum"] == list(PRECISIONS)
    assert SCHEMA["$defs"]["measure"]["enum"] == list(UNCERTAINTIES)
    assert set(SCHEMA["properties"]["outputs"]["properties"]) == set(FORMATS)


@pytest.mark.parametrize(
    ("ml", "voxel_ml", "expected"),
    [
        (1.6520000000000001, 0.001, 1.652),
        (1.6520000000000001, 0.0009999999999, 1.652),
        (12.34567, 0.02, 12.346),
        (0.00123456789, 1.23456789e-6, 0.001235),
    ],
)
def test_a_volume_is_rounded_to_what_a_voxel_shows(ml, voxel_ml, expected):
    assert _round_ml(ml, voxel_ml) == expected


@pytest.mark.parametrize("edge_mm", [0.011, 0.3, 1.0, 2.7])
def test_no_voxel_is_lost_by_rounding(edge_mm):
    voxel_ml = edge_mm**3 / 1000
    assert len({_round_ml(count * voxel_ml, voxel_ml) for count in range(200)}) == 200


@pytest.mark.slow
def test_numbers_have_the_decimals_that_are_said(segmenter, brain, tmp_path):
    result, report = reported(segmenter, brain, tmp_path / "out", formats=ALL, uncertainty=True)
    assert report["score"] == round(result.score, 4) != result.score
    for name, values in (("ml", 3), ("scores", 4), ("measures", 4), ("seconds", 4)):
        assert all(len(json.dumps(value).partition(".")[2]) <= values for value in report[name].values()), name
    assert all(math.isclose(report["ml"][name], ml, abs_tol=5e-4) for name, ml in result.ml.items())
