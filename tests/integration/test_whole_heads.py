"""Whole heads in, both structures out: a bundle of two networks, through every door."""

import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from helpers import ROOT, SHARED, save_nifti
from helpers.commands import python, run, unetpp
from helpers.dicom_phantoms import make_series
from helpers.heads import LEFT, RIGHT, SMALL, TASK, box, made_head, prefixed, taught, turned, write_head_bundle
from helpers.reports import valid_report
from pydicom.data import get_testdata_file

from benchmarks.locator import depths
from benchmarks.locator.oracle import measured
from benchmarks.locator.ranges import gates
from unetpp_monai import Segmenter
from unetpp_monai.bundle import load_locator, parameters_by_depth, read_bundle
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.inference import Locator
from unetpp_monai.task import read_task
from unetpp_monai.volume import Volume
from unetpp_monai.workflows.export import export
from unetpp_monai.workflows.pack import pack
from unetpp_monai.workflows.train import train

pytestmark = pytest.mark.slow
HEADS, MAPS = SHARED / "data" / "heads", SHARED / "data" / "SynthSeg_label_maps"
BOXES = {(1, 2): box(LEFT), (3, 4): box(RIGHT)}


@pytest.fixture(scope="module")
def locator():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = taught()
    torch.set_num_threads(threads)
    return network


@pytest.fixture(scope="module")
def bundles(locator, tmp_path_factory):
    """The bundle for heads, and the one for crops."""
    return write_head_bundle(tmp_path_factory.mktemp("bundles"), locator)


@pytest.fixture(scope="module")
def segmenters(bundles):
    return [Segmenter(bundle, device="cpu", runtime="eager") for bundle in bundles]


def assembled(crops, head, **options):
    """What the bundle for crops says of both boxes."""
    wanted = np.zeros(head.shape, np.uint8)
    for labels, place in BOXES.items():
        affine = head.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [one.start for one in place]
        found = crops(Volume(head.array[(slice(None), *place)].copy(), affine), **options).labels.array[0]
        wanted[place] = np.array([0, *labels], np.uint8)[found]
    return wanted


@pytest.mark.parametrize("options", [{}, {"depth": 1}, {"depth": "auto"}, {"mirror_axes": [0, 1]}])
def test_each_side_is_what_the_same_network_finds_in_its_crop(segmenters, options):
    heads, crops = segmenters
    head = made_head()
    result = heads(head, **options)
    np.testing.assert_array_equal(result.labels.array[0], assembled(crops, head, **options))
    assert options or all(result.voxels.values())
    assert sum(result.windows.values()) == 6 * 2 ** len(options.get("mirror_axes", []))
    assert [found.box for found in result.located.found] == list(BOXES.values())
    assert "locating" in result.seconds and crops(head).located is None


@pytest.mark.parametrize("runtime", ["openvino", "torchscript"])
def test_another_runtime_finds_the_same_boxes_and_almost_the_same_labels(bundles, segmenters, runtime):
    heads = Segmenter(bundles[0], device="cpu", runtime=runtime)
    found, wanted = heads(made_head()), segmenters[0](made_head())
    assert found.runtime == runtime and found.located == wanted.located
    assert (found.labels.array == wanted.labels.array).mean() > 0.999


def test_uncertainty_is_that_of_the_boxes(segmenters):
    heads, _ = segmenters
    result = heads(made_head(), uncertainty=True)
    inside = np.zeros(made_head().shape, bool)
    for place in BOXES.values():
        inside[place] = True
    assert result.uncertainty.array[0][inside].any() and not result.uncertainty.array[0][~inside].any()
    assert set(result.scores) == set(result.voxels) and 0 < result.score < 1


def test_the_order_of_a_files_axes_changes_nothing_in_world_space(segmenters):
    heads, _ = segmenters
    head = made_head()
    wanted, places = heads(head).labels, [found.centre for found in heads(head).located.found]
    for axcodes in ("LPS", "SRA", "PIL", "ILA"):
        result = heads(turned(head, axcodes))
        np.testing.assert_array_equal(turned(result.labels, "RAS").array, wanted.array)
        assert np.allclose([found.centre for found in result.located.found], places)


def test_gates_speak_in_words(segmenters):
    """The made head has a brain of 0.2 L and a network that has learned nothing: nobody may take its volumes."""
    heads, _ = segmenters
    result = heads(made_head())
    assert result.review is True
    said = " | ".join(result.plausibility)
    assert "brain is 233.3 mL, expected 1110 to 2190" in said and "size of left hippocampus" in said


def test_a_crop_is_refused_with_the_way_out(segmenters):
    heads, _ = segmenters
    crop = Volume(made_head().array[:, :35, :51, :36], np.eye(4))
    with pytest.raises(InputError, match=r"got 35 x 51 x 36 mm; give a T1-weighted image .* for the hippocampus task"):
        heads(crop)


def test_a_ct_is_refused_by_its_modality_and_by_its_size(segmenters, bundles, tmp_path):
    """A slice of a body that pydicom brings along; `benchmarks.locator.packaged` has a CT of a whole head."""
    heads, _ = segmenters
    (tmp_path / "ct").mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), tmp_path / "ct")
    result = unetpp("segment", "ct", "-o", "out", "--bundle", bundles[0].root, folder=tmp_path)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert result.returncode == 1 and "must be of modality MR" in said and "got CT" in said
    with pytest.raises(InputError, match=r"a whole image must measure at least .*, got 85 x 85 x 1 mm"):
        heads(read_dicom_series(tmp_path / "ct").volume)


def test_each_depth_is_measured_on_one_head(bundles, segmenters, tmp_path):
    head = made_head()
    wanted = segmenters[0](head)
    known = np.choose(wanted.labels.array[0], np.array([0, 17, 17, 53, 53], np.uint8))
    for name, array in (("head", head.array[0]), ("labels", known)):
        save_nifti(tmp_path / f"{name}.nii.gz", array, head.affine)
    files = (tmp_path / "head.nii.gz", tmp_path / "labels.nii.gz")
    first, full, auto = depths.measured(*files, task=bundles[0].root, runtime="eager", rounds=1)
    assert [row["depth"] for row in (first, full, auto)] == [1, 2, "auto"]
    assert full["dice"] == [1.0, 1.0] and full["relative"] == 1 and full["ml"] == wanted.ml
    assert max(first["dice"]) < 1 and first["relative"] > 0 and set(first["seconds"]) == set(wanted.seconds)


def test_monais_runner_gives_the_same_voxels(bundles, segmenters, tmp_path):
    head = made_head()
    (tmp_path / "data").mkdir()
    save_nifti(tmp_path / "data" / "head.nii.gz", head.array[0], head.affine)
    root = bundles[0].root
    arguments = ("--config_file", root / "configs" / "inference.json", "--bundle_root", root)
    places = ("--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "out", "--device", "$torch.device('cpu')")
    run(*arguments, *places, folder=tmp_path)
    (written,) = (tmp_path / "out").iterdir()
    np.testing.assert_array_equal(np.asarray(nib.load(written).dataobj), segmenters[0](head).labels.array[0])


def test_the_command_line_reports_what_was_located(bundles, tmp_path):
    head, root = made_head(), bundles[0].root
    save_nifti(tmp_path / "head.nii.gz", head.array[0], head.affine)
    save_nifti(tmp_path / "crop.nii.gz", head.array[0][:35, :51, :36], head.affine)
    command = ("segment", "head.nii.gz", "crop.nii.gz", "-o", "out", "--bundle", root, "--format", "nifti")
    result = unetpp(*command, "--format", "segnrrd", folder=tmp_path)
    assert result.returncode == 1 and "crop.nii.gz" in result.stderr and "Traceback" not in result.stderr
    assert "for the hippocampus task" in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out" / "crop.json").exists()
    report = valid_report(tmp_path / "out" / "head.json")
    assert list(report["ml"]) == [
        f"{side} {part} hippocampus" for side in ("left", "right") for part in ("anterior", "posterior")
    ]
    structures = report["located"]["structures"]
    assert list(structures) == ["left hippocampus", "right hippocampus"] and report["review"] is True
    assert structures["left hippocampus"]["size_mm"] == [12.0, 24.0, 12.0]
    assert report["located"]["brain_ml"] == pytest.approx(233.3) and "locating" in report["seconds"]


def test_both_networks_are_loaded_strictly(locator, bundles, tmp_path):
    heads, _ = write_head_bundle(tmp_path, locator)
    path = heads.root / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    one = next(key for key in weights if key.startswith("locate."))
    for changed, message in (
        ({key: value for key, value in weights.items() if key != one}, "must hold the weights of the locator"),
        ({key: value for key, value in weights.items() if key.startswith("locate.")}, "the weights of network_def"),
        ({**weights, "colour": torch.zeros(1)}, "colour, which starts with neither locate. nor segment."),
        ({key.removeprefix("segment."): value for key, value in weights.items()}, "starts with neither"),
        ({**weights, one: weights[one] * torch.nan}, f"got others for {one.removeprefix('locate.')}"),
    ):
        torch.save(changed, path)
        with pytest.raises(BundleError, match=message):
            Segmenter(read_bundle(heads.root), device="cpu", runtime="eager")
    torch.save(prefixed("locate.", locator), path)
    other = Locator(features=[4, 8], classes=["none", "one"], structures=["one"], labels=[[1, 2]])
    with pytest.raises(BundleError, match="must hold the weights of the locator"):
        load_locator(read_bundle(heads.root), other, torch.device("cpu"))


def test_depths_count_the_network_that_segments(bundles):
    heads, crops = bundles
    assert parameters_by_depth(heads) == parameters_by_depth(crops)


def test_an_inferer_without_the_locator_is_refused(locator, tmp_path):
    heads, _ = write_head_bundle(tmp_path, locator)
    path = heads.root / "configs" / "inference.json"
    config = json.loads(path.read_text())
    del config["inferer"]["locator"]
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match="inferer must use the locator of locator_features"):
        Segmenter(read_bundle(heads.root), device="cpu", runtime="eager")


def test_a_head_task_is_packed_with_both_networks_and_neither_trained_nor_exported_as_one(locator, bundles, tmp_path):
    task = tmp_path / "task"
    shutil.copytree(TASK, task)
    values = {**json.loads((TASK / "task.json").read_text()), **SMALL, "patch_size": [24, 24, 24]}
    (task / "task.json").write_text(json.dumps({**values, "head_weights": [0.6, 0.4]}))
    shutil.copyfile(bundles[0].weights, task / "model.pt")
    packed = pack(tmp_path / "dist", task=task)
    assert [path.name for path in sorted((packed.folder / "configs").glob("*.json"))] == [
        "inference.json",
        "metadata.json",
    ]
    head = made_head()
    heads = Segmenter(read_bundle(packed.folder), device="cpu", runtime="eager")
    crops = Segmenter(bundles[1], device="cpu", runtime="eager")
    np.testing.assert_array_equal(heads(head).labels.array[0], assembled(crops, head))
    torch.save(prefixed("segment.", locator), task / "model.pt")
    with pytest.raises(BundleError, match="must hold the weights of network_def"):
        pack(tmp_path / "other", task=task)
    with pytest.raises(InputError, match="a task is trained as one network, got task with a locator beside it"):
        train(task, fold=0)
    with pytest.raises(InputError, match=r"a file of torchscript holds one network, got UNet\+\+ hippocampus"):
        export(bundles[0], tmp_path / "model.ts", to="torchscript")


def test_weights_are_joined_by_one_command(locator, bundles, tmp_path):
    _, crops = bundles
    torch.save(locator.state_dict(), tmp_path / "locator.pt")
    arguments = (tmp_path / "locator.pt", crops.weights, "-o", tmp_path / "model.pt")
    result = python("benchmarks.locator.join", *arguments, folder=ROOT)
    assert result.returncode == 0, result.stderr
    joined, wanted = (torch.load(path, weights_only=True) for path in (tmp_path / "model.pt", bundles[0].weights))
    assert joined.keys() == wanted.keys() and all(torch.equal(joined[key], wanted[key]) for key in wanted)


@pytest.mark.data
@pytest.mark.long
@pytest.mark.skipif(not MAPS.is_dir(), reason="needs the label maps beside the checkout")
def test_gates_are_those_of_the_label_maps():
    stated = read_task(TASK).metadata["gates"]
    assert gates(MAPS) == {key: stated[key] for key in ("size", "located", "brain", "sides")}


@pytest.mark.data
@pytest.mark.long
@pytest.mark.skipif(not HEADS.is_dir(), reason="needs the heads beside the checkout")
def test_known_boxes_on_a_real_head_give_a_result_that_nobody_need_look_at():
    """What a locator has to reach; HippoDeep's labels are no truth, but another's."""
    head, labels = HEADS / "chris_t1.nii.gz", HEADS / "chris_t1_hippodeep.nii.gz"
    (row,) = measured(head, labels, [7.0], uncertainty=True)
    assert min(row["dice"].values()) > 0.84
    assert row["flagged"] == [] and row["score"] < read_task(TASK).metadata["review"]["threshold"]


def test_dicom_carries_the_four_labels_with_their_sides(bundles, segmenters, tmp_path):
    head = turned(made_head(), "LPS")
    stored = np.rint(head.array[0] + 50).astype(np.uint16)

    def paint(dataset, index):
        dataset.PixelData = stored[..., index].T.tobytes()

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine
    make_series(tmp_path / "series", affine, shape=head.shape, change=paint)
    formats = "nifti,segnrrd,dicomseg,rtstruct,sr"
    result = unetpp("segment", "series", "-o", "out", "--bundle", bundles[0].root, "--format", formats, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    report = valid_report(tmp_path / "out" / "series.json")
    wanted = segmenters[0](Volume(stored[None].astype(np.float32), head.affine))
    assert report["voxels"] == wanted.voxels and all(wanted.voxels.values())
    assert set(report["outputs"]) == set(formats.split(","))  # each was read again, voxel by voxel
    seg = pydicom.dcmread(tmp_path / "out" / "series_seg.dcm")
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in seg.SegmentSequence]
    stated = [[code.CodeMeaning for code in kind.SegmentedPropertyTypeModifierCodeSequence] for kind in kinds]
    assert stated == [[side, part] for side in ("Left", "Right") for part in ("Anterior", "Posterior")]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == list(report["ml"])
    assert report["outputs"]["sr"]["read_back"].keys() == report["ml"].keys()
