"""Several DICOM series of one study are the channels of one image, by geometry and never by guess."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from helpers import BUNDLE
from helpers.commands import run, unetpp
from helpers.dicom_checks import array_and_affine
from helpers.dicom_phantoms import LPS_TO_RAS, add_pixels, axial_affine, make_series
from helpers.reports import valid_report

from unetpp_monai import Segmenter
from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import GeometryError, InputError
from unetpp_monai.io import read_case, read_volume
from unetpp_monai.pacs import Rule, segmenting
from unetpp_monai.volume import Volume

SHAPE = (34, 50, 36)
AFFINE = axial_affine((1.0, 1.0, 1.0))
STUDY, FRAME = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
NAMES = ("T1", "FLAIR")


def series_of(folder, name, number, *, affine=AFFINE, shape=SHAPE, **tags):
    """Write a series whose voxels are a linear field of their places in the patient, of another slope for each."""
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    field = np.rint(500 + place @ np.array([number, 2.0, 1.0])).astype(np.uint16)

    def change(dataset, index):
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = STUDY, FRAME
        dataset.SeriesNumber, dataset.SeriesDescription = number, name
        add_pixels(dataset, field[:, :, index].T)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return make_series(folder / name, affine, shape, change=change)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for number, name in enumerate(NAMES, 3):
        series_of(folder, name, number)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny network of two channels."""
    import torch

    root = tmp_path_factory.mktemp("two") / "bundle"
    shutil.copytree(BUNDLE, root)
    values = {"features": [4, 8, 8], "in_channels": 2, "exit_thresholds": []}
    path = root / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    path = root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    image |= {"num_channels": 2, "channel_def": dict(enumerate_names())}
    path.write_text(json.dumps({key: value for key, value in metadata.items() if key != "plausible"}))
    torch.manual_seed(0)
    network = read_bundle(root).parser().get_parsed_content("network_def")
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def enumerate_names():
    return ((str(index), name) for index, name in enumerate(NAMES))


@pytest.mark.parametrize("names", [NAMES, ("3", "FLAIR"), ("FLAIR", "T1")])
def test_series_become_channels_in_the_order_of_their_names(study, names):
    image = read_case(study, series=names, in_channels=2)
    for channel, name in zip(image.volume.array, names, strict=True):
        alone = read_case(study, series=name)
        np.testing.assert_array_equal(channel, alone.volume.array[0])
    first = read_case(study, series=names[0])
    np.testing.assert_array_equal(image.volume.affine, first.volume.affine)
    assert [one.SOPInstanceUID for one in image.instances] == [one.SOPInstanceUID for one in first.instances]
    assert {str(header.SeriesDescription) for header in image.series} == set(NAMES)
    assert len(image.sha256) == 2 * SHAPE[2]


def test_another_grid_is_resampled_onto_the_first_and_said(tmp_path):
    series_of(tmp_path, "T1", 3)
    turned = np.eye(4)
    turned[:3, :3] = np.array([[0, 0, 1.5], [2.0, 0, 0], [0, 2.0, 0]])  # sagittal, coarser, from where T1 begins
    turned[:3, 3] = AFFINE[:3, 3] - (0, 2, 2)
    series_of(tmp_path, "FLAIR", 4, affine=turned, shape=(28, 20, 15))
    image = read_case(tmp_path, series=NAMES)
    whole = Volume(np.zeros((1, *SHAPE)), LPS_TO_RAS @ AFFINE)
    assert image.volume.same_grid(whole)
    (remark,) = image.remarks
    assert remark.startswith("channel 2: resampled linearly from 28 x 20 x 15 voxels of 2 x 2 x 1.5 mm onto the grid")
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    expected, found = 500 + place @ np.array([4, 2.0, 1.0]), image.volume.array[1]
    index = (place - turned[:3, 3]) @ np.linalg.inv(turned[:3, :3]).T
    inner = ((index >= 0) & (index <= np.array((27, 19, 14)))).all(axis=-1)
    outer = ((index < -0.5) | (index > np.array((27.5, 19.5, 14.5)))).any(axis=-1)
    assert 0.3 < inner.mean() < 0.9 and f"{outer.mean():.1%} of its voxels are outside" in remark
    assert np.abs(found - expected)[inner].max() < 0.6  # stored values are whole numbers
    assert set(found[outer]) == {read_case(tmp_path, series="FLAIR").volume.array.min()}


@pytest.mark.parametrize(
    ("tags", "affine", "error", "words"),
    [
        (
            {"FrameOfReferenceUID": "1.2.3"},
            AFFINE,
            GeometryError,
            r"have the same FrameOfReferenceUID.*'FLAIR'.*register",
        ),
        (
            {"FrameOfReferenceUID": ""},
            AFFINE,
            GeometryError,
            r"FrameOfReferenceUID, got 1.2.*none in.*register",
        ),
        ({"StudyInstanceUID": "1.2.3"}, AFFINE, GeometryError, "have the same StudyInstanceUID.*series of one study"),
        ({}, axial_affine((1, 1, 1), (900, 0, 0)), GeometryError, "channels must overlap.*'FLAIR', channel 2"),
    ],
)
def test_series_that_do_not_belong_together_are_refused_by_name(tmp_path, tags, affine, error, words):
    series_of(tmp_path, "T1", 3)
    series_of(tmp_path, "FLAIR", 4, affine=affine, **tags)
    with pytest.raises(error, match=words):
        read_case(tmp_path, series=NAMES)


def test_which_series_is_which_channel_is_never_guessed(study, tmp_path):
    listing = r"Found: .*number 4 of study .*'FLAIR'.*number 3 .*'T1'"
    for names in (None, "T1", ("T1", "FLAIR", "T1")):
        with pytest.raises(InputError, match=rf"named for each of 2 channels, in their order, got \d name.*{listing}"):
            read_case(study, series=names, in_channels=2)
    with pytest.raises(InputError, match=r"different series, got one of .* twice"):
        read_case(study, series=("T1", "3"), in_channels=2)
    with pytest.raises(InputError, match="got 2 name"):
        read_case(study, series=NAMES, in_channels=1)
    with pytest.raises(InputError, match=r"'T2'.*it contains: .*'T1'"):
        read_case(study, series=("T1", "T2"), in_channels=2)


@pytest.mark.slow
def test_segment_names_every_series_and_refers_to_the_first(study, bundle, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    arguments = ["segment", tmp_path / "study", "-o", tmp_path / "out", "--bundle", bundle, "--runtime", "eager"]
    alone = unetpp(*arguments)
    said = " ".join(alone.stderr.replace("│", "").split())
    assert (
        alone.returncode == 1
        and "each of 2 channels (T1, FLAIR), in their order" in said
        and "'FLAIR'" in said
        and "(--series)" in said
    )
    done = unetpp(*arguments, "--series", "FLAIR", "--series", "T1", "--format", "nifti,dicomseg")
    assert done.returncode == 0, done.stderr
    report = valid_report(tmp_path / "out" / "study.json")
    uids = {name: str(pydicom.dcmread(next((study / name).iterdir())).SeriesInstanceUID) for name in NAMES}
    assert report["series"] == uids["FLAIR"] and report["other_channels"] == [uids["T1"]]
    assert report["request"]["series"] == ["FLAIR", "T1"]
    seg = pydicom.dcmread(tmp_path / "out" / "study_seg.dcm")
    (reference,) = seg.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == uids["FLAIR"] and seg.FrameOfReferenceUID == FRAME
    assert report["outputs"]["dicomseg"]["read_back"]["different"] == 0
    labels = Segmenter.from_bundle(bundle, device="cpu", runtime="eager")(
        read_case(study, series=("FLAIR", "T1")).volume
    ).labels
    written, _ = array_and_affine(tmp_path / "out" / "study_seg.nii.gz")
    np.testing.assert_array_equal(np.squeeze(written), labels.array[0])
    again = unetpp(*arguments, "--series", "FLAIR", "--series", "T1", "--format", "nifti,dicomseg")
    assert again.returncode == 0 and "1 of 1 case was done before" in again.stderr
    other = unetpp(*arguments, "--series", "T1", "--series", "FLAIR", "--format", "nifti,dicomseg")
    assert other.returncode == 1 and "by other settings" in other.stderr
    run(
        *("--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle),
        *("--dataset_dir", tmp_path / "study", "--output_dir", tmp_path / "monai", "--series", "['FLAIR', 'T1']"),
        folder=tmp_path,
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "monai" / "study_seg.nii.gz").array, labels.array)


@pytest.mark.slow
def test_a_listener_refuses_a_bundle_of_several_channels(bundle):
    with pytest.raises(InputError, match=r"one series at a time.* 2 channels \(T1, FLAIR\).*unetpp segment"):
        segmenting([Rule("MR", bundle=str(bundle))])


def test_a_listener_refuses_a_bundle_of_pictures():
    picture = SimpleNamespace(spatial_dims=2, bundle=read_bundle("hippocampus"))
    with pytest.raises(InputError, match=r"segments volumes, got .* for pictures"):
        segmenting([Rule("MR")], load=lambda folder: picture)
