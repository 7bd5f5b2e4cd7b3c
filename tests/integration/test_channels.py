"""Files of one case become its channels, in training and when segmenting, and only where they fit each other."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import BUNDLE, phantom, save_nifti
from helpers.commands import run, unetpp
from helpers.planned_tasks import plan, values_of
from helpers.reports import valid_report
from PIL import Image

from unetpp_monai import Segmenter, find_cases, read_volume
from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import GeometryError, InputError
from unetpp_monai.io import case_name, channel_files, labelled_cases, read_case
from unetpp_monai.workflows.train import train

SUFFIXES = ("_0000", "_0001")


def save_channels(folder, name, ending=".nii.gz", affine=None, shape=(34, 50, 36), names=SUFFIXES):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, suffix in enumerate(names):
        save_nifti(folder / f"{name}{suffix}{ending}", phantom(shape, seed=seed)[0], affine)
    return folder / f"{name}{names[0]}{ending}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny network of two channels that are files."""
    root = tmp_path_factory.mktemp("two") / "bundle"
    shutil.copytree(BUNDLE, root)
    values = {"features": [4, 8, 8], "in_channels": 2, "channel_suffixes": list(SUFFIXES), "exit_thresholds": []}
    for name in ("inference", "train"):
        path = root / "configs" / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    path = root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    image |= {"num_channels": 2, "channel_def": {"0": "T1", "1": "FLAIR"}}
    path.write_text(json.dumps({key: value for key, value in metadata.items() if key != "plausible"}))
    import torch

    network = read_bundle(root).parser().get_parsed_content("network_def")
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


@pytest.mark.slow
def test_one_case_of_two_files_is_that_of_one_file_with_both(bundle, tmp_path):
    first = save_channels(tmp_path / "files", "BRATS_001")
    both = np.stack([np.asarray(nib.load(file).dataobj) for file in channel_files(first, SUFFIXES)], axis=-1)
    (tmp_path / "whole").mkdir()
    save_nifti(tmp_path / "whole" / "BRATS_001.nii.gz", both, np.eye(4))
    for name in ("files", "whole"):
        done = unetpp(
            "segment", tmp_path / name, "-o", tmp_path / f"{name}_out", "--bundle", bundle, "--runtime", "eager"
        )
        assert done.returncode == 0, done.stderr
    ours, other = (nib.load(tmp_path / f"{name}_out" / "BRATS_001_seg.nii.gz") for name in ("files", "whole"))
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(other.dataobj))
    report = valid_report(tmp_path / "files_out" / "BRATS_001.json")
    assert report["input"] == str(first)
    again = unetpp(
        "segment", tmp_path / "files", "-o", tmp_path / "files_out", "--bundle", bundle, "--runtime", "eager"
    )
    assert again.returncode == 0 and "1 of 1 case was done before" in again.stderr
    save_nifti(tmp_path / "files" / "BRATS_001_0001.nii.gz", phantom(seed=9)[0])  # the second channel only
    other = unetpp(
        "segment", tmp_path / "files", "-o", tmp_path / "files_out", "--bundle", bundle, "--runtime", "eager"
    )
    assert other.returncode == 1 and "of another input" in " ".join(other.stderr.replace("│", "").split())


@pytest.mark.slow
def test_every_runner_joins_them(bundle, tmp_path):
    first = save_channels(tmp_path / "images", "a")
    save_channels(tmp_path / "images", "b", names=("_0000", "_0001"))
    run(
        *("--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle),
        *("--dataset_dir", tmp_path / "images", "--output_dir", tmp_path / "out"),
        folder=tmp_path,
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_seg.nii.gz", "b_seg.nii.gz"]
    labels = Segmenter.from_bundle(bundle, device="cpu", runtime="eager")(
        read_case(first, channels=SUFFIXES).volume
    ).labels
    np.testing.assert_array_equal(read_volume(tmp_path / "out" / "a_seg.nii.gz").array, labels.array)


def test_cases_are_found_and_named_without_their_channel(tmp_path):
    for name in ("b", "a"):
        save_channels(tmp_path, name, shape=(4, 4, 4))
    save_nifti(tmp_path / "whole.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    cases = find_cases(tmp_path, channels=SUFFIXES)
    assert [case_name(case, SUFFIXES) for case in cases] == ["a", "b", "whole"]
    assert len(find_cases(tmp_path)) == 5
    assert channel_files(cases[2], SUFFIXES) == (cases[2],) and channel_files(cases[0], ()) == (cases[0],)


def colours(size=40, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_a_file_with_all_channels_is_a_case_whatever_its_name_ends_with(tmp_path, ending):
    names = ("_0000", "_0001", "_0002")
    for name in names:
        path = tmp_path / f"frame{name}{ending}"
        if ending in (".png", ".tif"):
            Image.fromarray(colours()).save(path)
        elif ending == ".nii.gz":
            save_nifti(path, np.zeros((4, 5, 6, 3), np.float32))
        else:
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((6, 5, 4, 3), np.float32), isVector=True), path)
    cases = find_cases(tmp_path, channels=names)
    assert len(cases) == 3
    assert all(len(read_case(case, channels=names).volume.array) == 3 for case in cases)
    (tmp_path / f"frame_0001{ending}").write_bytes(b"damaged")  # then its name tells what it is
    assert len(find_cases(tmp_path, channels=names)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nnunet", "folders"])
def test_pictures_in_colour_are_one_file_each_in_every_layout(tmp_path, layout):
    data, images = tmp_path / "data", {"nnunet": "imagesTr", "folders": "images"}[layout]
    for at in range(6):
        label = np.zeros((40, 40), np.uint8)
        label[8 : 20 + at, 10:30] = 1
        name = f"c{at}" if layout == "nnunet" else f"frame_{at:04d}"
        pictures = {images: colours(seed=at) // 2 + 100 * label[..., None], images.replace("images", "labels"): label}
        for folder, array in pictures.items():
            (data / folder).mkdir(parents=True, exist_ok=True)
            ending = "_0000" if layout == "nnunet" and folder == images else ""
            Image.fromarray(array).save(data / folder / f"{name}{ending}.png")
    if layout == "nnunet":
        stated = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "cell": 1}}
        (data / "dataset.json").write_text(json.dumps({**stated, "numTraining": 6, "file_ending": ".png"}))
    plan(data, "-o", tmp_path / "task")
    small = {**values_of(tmp_path / "task"), "features": [4, 8], "head_weights": [1.0], "patch_size": [16, 16]}
    (tmp_path / "task" / "task.json").write_text(json.dumps({**small, "roi_size": [16, 16]}))
    weights = train(tmp_path / "task", fold=0, overrides={"steps_per_epoch": 2, "max_epochs": 1, "val_interval": 1})
    assert weights.is_file() and weights.with_name("validation.json").is_file()


def test_labels_are_named_without_channels(tmp_path):
    for name in ("a", "b"):
        save_channels(tmp_path / "images", name, shape=(4, 4, 4))
        (tmp_path / "labels").mkdir(exist_ok=True)
        save_nifti(tmp_path / "labels" / f"{name}.nii.gz", np.zeros((4, 4, 4), np.uint8))
    pairs = labelled_cases(tmp_path / "images", tmp_path / "labels", ".nii.gz", SUFFIXES)
    assert [pair["image"].rpartition("/")[2] for pair in pairs] == ["a_0000.nii.gz", "b_0000.nii.gz"]
    (tmp_path / "images" / "b_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a file for each of 2 channels, missing: b_0001.nii.gz"):
        labelled_cases(tmp_path / "images", tmp_path / "labels", ".nii.gz", SUFFIXES)


def test_channels_that_do_not_fit_are_refused_by_name(tmp_path):
    first = save_channels(tmp_path, "a", shape=(6, 6, 6))
    with pytest.raises(InputError, match=r"by the file of its first channel, got .*; name a_0000"):
        channel_files(tmp_path / "a_0001.nii.gz", SUFFIXES)
    moved = np.eye(4)
    moved[0, 3] = 0.5
    for affine, shape in ((moved, (6, 6, 6)), (np.diag([-1.0, 1, 1, 1]), (6, 6, 6)), (np.eye(4), (6, 6, 5))):
        save_nifti(tmp_path / "a_0001.nii.gz", phantom(shape)[0], affine)
        with pytest.raises(GeometryError, match=r"channels of a case must be on one grid, got .* in a_0001.nii.gz"):
            read_case(first, channels=SUFFIXES)
    save_nifti(tmp_path / "a_0001.nii.gz", np.zeros((6, 6, 6, 2), np.float32), np.eye(4))
    with pytest.raises(InputError, match="each file must have 1 channel, got 2"):
        read_case(first, channels=SUFFIXES)
    (tmp_path / "a_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"missing: a_0001\.nii\.gz"):
        read_case(first, channels=SUFFIXES)


@pytest.mark.slow
def test_thresholds_are_chosen_with_all_channels(bundle, tmp_path):
    (tmp_path / "labels").mkdir()
    for number in range(4):
        save_channels(tmp_path / "images", f"c{number}")
        save_nifti(tmp_path / "labels" / f"c{number}.nii.gz", phantom()[1])
    arguments = [tmp_path / "images", "--references", tmp_path / "labels"]
    done = unetpp("calibrate", *arguments, "--bundle", bundle, "--runtime", "eager", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exit"]["cases"] == 4
