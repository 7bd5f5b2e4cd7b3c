"""PNG and TIFF in, label PNG out, and a 2-D bundle from picture to picture."""

import json
import shutil
import struct

import numpy as np
import pytest
import torch
from helpers import ROOT, save_nifti
from helpers.commands import run, unetpp
from helpers.reports import valid_report
from PIL import Image

from unetpp_monai import Segmenter, UNetPlusPlus, pack, read_volume
from unetpp_monai.bundle.metadata import ImageInput
from unetpp_monai.errors import InputError
from unetpp_monai.io import find_cases, write_label_picture
from unetpp_monai.io.monai_reader import VolumeReader
from unetpp_monai.task import BASE
from unetpp_monai.volume import Volume


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
        np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
    ],
    ids=["grey", "grey16", "rgb"],
)
def test_x_runs_right_and_y_down(tmp_path, pixels, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(pixels).save(path)
    volume = read_volume(path)
    assert volume.shape == (4, 3, 1) and volume.spacing == (1, 1, 1)
    np.testing.assert_array_equal(volume.array[:, 2, 1, 0], np.atleast_1d(pixels[1, 2]))
    assert volume.array.dtype == pixels.dtype


def test_pictures_of_other_machines_have_the_same_values(tmp_path):
    """Big-endian TIFF, as ImageJ writes it, in 16 bit."""
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    tags = [(256, 4), (257, 3), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 3), (279, 24)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = struct.pack(">2sHIH", b"MM", 42, 8, len(tags)) + entries + bytes(4)
    assert len(head) == 122
    (tmp_path / "a.tif").write_bytes(head + pixels.astype(">u2").tobytes())
    array = read_volume(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[0, :, :, 0].T, pixels)
    assert array.dtype == np.uint16 and array.dtype.isnative


def test_a_picture_beyond_pillows_limit_is_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # else the file would have 180 million
    with pytest.raises(InputError, match=r"small enough for Pillow, got .*large\.png"):
        read_volume(tmp_path / "large.png")


def test_what_is_no_plain_picture_is_refused(tmp_path):
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    grey.convert("RGBA").save(tmp_path / "alpha.png")
    grey.convert("P").save(tmp_path / "palette.png")
    grey.save(tmp_path / "pages.tif", save_all=True, append_images=[grey])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "alpha.png").read_bytes()[:40])
    reasons = {
        "alpha": "must be grey or RGB, got Pillow's mode 'RGBA'",
        "palette": "must be grey or RGB, got Pillow's mode 'P'",
        "pages": "must have 1 page, got 2",
        "text": "not a readable picture",
        "cut": "not a readable picture",
    }
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=reasons[path.stem]):
            read_volume(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_damaged_pictures_are_named(tmp_path, suffix):
    """A flipped bit anywhere in a PNG; anything that mutated TIFFs do to their parser."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 50, (20, 20)).astype(np.uint8)).save(tmp_path / f"a{suffix}")
    whole = (tmp_path / f"a{suffix}").read_bytes()
    original, seen = read_volume(tmp_path / f"a{suffix}").array, 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(8, len(whole) - 12)] ^= 1 << rng.integers(8)
        (tmp_path / f"b{suffix}").write_bytes(damaged)
        try:
            found = read_volume(tmp_path / f"b{suffix}").array
            assert suffix != ".png" or np.array_equal(found, original)
        except InputError as error:
            seen += 1
            assert f"b{suffix}" in str(error) and "\n" not in str(error)
    assert seen > (280 if suffix == ".png" else 20)


def test_label_pictures_keep_indices_and_show_colours(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (1, 7, 5, 1)).astype(np.uint8)
    path = tmp_path / "labels.png"
    write_label_picture(Volume(labels, np.eye(4)), path, colours=[(255, 0, 0), (0, 255, 0)])
    np.testing.assert_array_equal(read_volume(path, labels=True).array, labels)
    shown = np.asarray(Image.open(path).convert("RGB"))
    assert (shown[labels[0, :, :, 0].T == 1] == (255, 0, 0)).all() and (shown[labels[0, :, :, 0].T == 0] == 0).all()
    with pytest.raises(InputError, match=r"must be \(1, X, Y, 1\)"):
        write_label_picture(Volume(np.zeros((1, 2, 2, 2), np.uint8), np.eye(4)), path, colours=[])
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.png"]


def test_a_2d_network_takes_single_slices_only(tmp_path):
    slices = save_nifti(tmp_path / "slices.nii.gz", np.zeros((4, 5, 2), np.float32))
    reader = VolumeReader(spatial_dims=2)
    with pytest.raises(InputError, match="images of 1 slice, got 2"):
        reader.get_data(reader.read(slices))
    single = save_nifti(tmp_path / "single.nii.gz", np.zeros((4, 5), np.float32))
    array, meta = reader.get_data(reader.read(single))
    assert array.shape == (1, 4, 5) and meta["spatial_shape"].tolist() == [4, 5]
    for plane, axes in (("sagittal", [1, 2, 0]), ("coronal", [0, 2, 1])):
        volume = Volume(np.zeros((1, 4, 5, 1), np.float32), np.eye(4)[:, [*axes, 3]])
        with pytest.raises(InputError, match=f"takes axial slices, got a {plane} one"):
            reader.get_data(volume)


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """The nuclei bundle with a small untrained network."""
    folder = tmp_path_factory.mktemp("nuclei")
    shutil.copytree(ROOT / "configs" / "nuclei_2d", folder / "task")
    task = json.loads((folder / "task" / "task.json").read_text())
    task.update(features=[4, 8], head_weights=[1.0], roi_size=[32, 32], exit_thresholds=[])
    (folder / "task" / "task.json").write_text(json.dumps(task))
    torch.manual_seed(0)
    torch.save(UNetPlusPlus(2, 3, 2, [4, 8]).state_dict(), folder / "task" / "model.pt")
    return pack(folder / "dist", task=folder / "task").folder


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (50, 70, 3)), ("b.tif", (33, 31, 3))):
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(folder / name)
    return folder


@pytest.mark.slow
def test_pictures_become_label_pictures(nuclei, pictures, tmp_path):
    assert [case.name for case in find_cases(pictures)] == ["a.png", "b.tif"]
    result = unetpp("segment", pictures, "-o", tmp_path / "out", "--bundle", nuclei)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.json", "a_seg.png", "b.json", "b_seg.png"
    ]  # fmt: skip
    labels = read_volume(tmp_path / "out" / "a_seg.png", labels=True)
    assert labels.shape == (70, 50, 1)
    report = valid_report(tmp_path / "out" / "a.json")
    assert report["voxels"]["nucleus"] == int(labels.array.sum()) and report["ml"] == {}
    expected = Segmenter.from_bundle(nuclei)(read_volume(pictures / "a.png"))
    np.testing.assert_array_equal(labels.array, expected.labels.array)
    arguments = ("--config_file", nuclei / "configs" / "inference.json", "--bundle_root", nuclei)
    run(*arguments, "--dataset_dir", pictures, "--output_dir", tmp_path / "monai", folder=tmp_path)
    monai = read_volume(tmp_path / "monai" / "a_seg.png", labels=True)
    np.testing.assert_array_equal(monai.array, labels.array)


def test_grey_pictures_do_not_fit_an_rgb_bundle(nuclei, tmp_path):
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(InputError, match=r"takes 3 channels \(red, green, blue\), got 1; convert"):
        Segmenter.from_bundle(nuclei)(read_volume(tmp_path / "grey.png"))


@pytest.mark.slow
def test_training_on_pictures_and_on_all_cases(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(5):
        pixels = rng.integers(0, 100, (40, 44, 3)).astype(np.uint8)
        mask = np.zeros((40, 44), bool)
        mask[8:30, 5 + index : 25] = True
        pixels[mask] += 100
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "data" / "labels" / f"{index}.png")
    configs = f"['{BASE}/train.json','{ROOT}/configs/nuclei_2d/task.json']"
    arguments = (
        "--config_file", configs, "--dataset_dir", tmp_path / "data", "--ckpt_dir", tmp_path,
        "--output_dir", tmp_path, "--features", "[4,8]", "--head_weights", "[1.0]", "--exit_thresholds", "[]",
        "--patch_size", "[32,32]", "--roi_size", "[32,32]", "--max_epochs", 1, "--val_interval", 1, "--num_folds", 5,
    )  # fmt: skip
    result = run(*arguments, "--resize", "[32,32]", "--zoom_range", "[1.0,1.0]", folder=tmp_path)
    assert "val_mean_dice" in result.stdout and (tmp_path / "model.pt").exists()
    (tmp_path / "model.pt").unlink()
    result = run(*arguments, "--fold", 5, folder=tmp_path)
    assert "val_mean_dice" not in result.stdout and "until 1 epochs" in result.stdout
    assert torch.load(tmp_path / "model.pt", weights_only=True)["outputs.x_0_1.weight"].shape == (2, 4, 1, 1)


def test_a_volume_is_no_picture_and_the_way_out_is_the_networks():
    colour, grey = ImageInput(3, ("red", "green", "blue"), "XC", 2), ImageInput(1, ("grey",), "XC", 2)
    with pytest.raises(
        InputError, match="nuclei takes pictures, got a volume of 5 x 6 x 7 voxels; name a task"
    ) as caught:
        colour.check_channels(Volume(np.zeros((1, 5, 6, 7), np.float32), np.eye(4)), 3, "nuclei")
    assert caught.value.option == "task"
    flat = Volume(np.zeros((2, 5, 6, 1), np.float32), np.eye(4))
    with pytest.raises(InputError, match="convert the picture to RGB"):
        colour.check_channels(flat, 3, "nuclei")
    with pytest.raises(InputError, match="convert the picture to grey"):
        grey.check_channels(flat, 1, "membranes")
    with pytest.raises(InputError, match="not a time series or a picture"):
        ImageInput(1, ("T1",), "MR", 3).check_channels(flat, 1, "heads")
