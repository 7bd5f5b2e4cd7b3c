"""Metrics against an independent library and by hand, folders against each other, and what is refused."""

import csv
import itertools
import json

import numpy as np
import pytest
import SimpleITK
import surface_distance
from helpers import phantom, save_nifti
from helpers.commands import unetpp

from unetpp_monai import evaluate
from unetpp_monai.errors import AmbiguityError, GeometryError, InputError
from unetpp_monai.io import write_label_picture
from unetpp_monai.volume import Volume
from unetpp_monai.workflows.evaluate import CaseMetrics, summarise
from unetpp_monai.workflows.label_pairs import cases_by_name
from unetpp_monai.workflows.metrics import compare_masks


def blobs(seed, shape=(24, 30, 20), shift=0):
    """Two blobs that overlap in part."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), -1)
    centre, radii = np.array(shape) / 2, rng.uniform(4, 8, 3)
    first = (((grid - centre) / radii) ** 2).sum(-1) < 1
    second = (((grid - centre - rng.uniform(-2, 2, 3) - shift) / (radii * rng.uniform(0.8, 1.2, 3))) ** 2).sum(-1) < 1
    return first, second


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.1, 2.5)])
def test_metrics_agree_with_deepminds_library(seed, spacing):
    prediction, reference = blobs(seed)
    ours = compare_masks(prediction, reference, spacing=spacing, tolerance=1.0, voxel_size=np.prod(spacing) / 1000)
    distances = surface_distance.compute_surface_distances(reference, prediction, spacing)
    assert ours.dice == pytest.approx(surface_distance.compute_dice_coefficient(reference, prediction))
    assert ours.surface_dice == pytest.approx(
        surface_distance.compute_surface_dice_at_tolerance(distances, 1.0), abs=1e-6
    )
    # theirs weighs surface elements on the voxels' corners, ours counts boundary voxels: equal within half a voxel
    theirs = surface_distance.compute_robust_hausdorff(distances, 95)
    assert ours.hd95 == pytest.approx(theirs, abs=np.linalg.norm(spacing) / 2)
    expected = (prediction.sum() - reference.sum()) * np.prod(spacing) / 1000
    assert ours.volume_error == pytest.approx(expected)
    assert ours.volume_error_percent == pytest.approx(100 * (prediction.sum() / reference.sum() - 1))
    assert ours.iou == pytest.approx(ours.dice / (2 - ours.dice))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0)])
def test_hd95_of_a_shifted_slab_is_the_shift_in_mm(spacing):
    first, second = np.zeros((20, 9, 9), bool), np.zeros((20, 9, 9), bool)
    first[4:8], second[7:11] = True, True
    ours = compare_masks(first, second, spacing=spacing, tolerance=0.0, voxel_size=1.0)
    assert ours.hd95 == pytest.approx(3 * spacing[0])
    assert ours.dice == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(1, 40, 30), (12, 14, 10), (1, 1, 30)])
def test_metrics_do_not_depend_on_the_order_of_axes(shape):
    """A slice is one along any axis."""
    reference = np.zeros(shape, bool)
    reference[tuple(slice(0, 1) if size == 1 else slice(2, size - 3) for size in shape)] = True
    prediction, spacing = np.roll(reference, 1, -1), np.array([1.0, 2.0, 3.0])
    found = set()
    for order in itertools.permutations(range(3)):
        masks = prediction.transpose(order), reference.transpose(order)
        metrics = compare_masks(*masks, spacing=tuple(spacing[list(order)]), tolerance=1.0, voxel_size=1.0)
        found.add((round(metrics.hd95, 5), round(metrics.surface_dice, 5)))
    assert len(found) == 1


@pytest.mark.slow
def test_grids_are_compared_within_a_tenth_of_a_voxel(tmp_path):
    labels = np.zeros((256, 256, 4), np.uint8)
    labels[50:90, 50:90] = 1
    for name, spacing in (("exact", 0.48828125), ("rounded", 0.4883), ("other", 0.4890)):
        (tmp_path / name).mkdir()
        save_nifti(tmp_path / name / "a.nii.gz", labels, np.diag([spacing, spacing, 3, 1]))
    (row,) = evaluate(tmp_path / "exact", tmp_path / "rounded").rows
    assert row.dice == 1
    with pytest.raises(GeometryError, match=r"same grid within 0.1 voxels, got 0.376 in case a"):
        evaluate(tmp_path / "exact", tmp_path / "other")
    assert evaluate(tmp_path / "exact", tmp_path / "other", grid_tolerance=0.5).rows[0].dice == 1
    with pytest.raises(GeometryError, match="within 0 voxels"):
        evaluate(tmp_path / "exact", tmp_path / "rounded", grid_tolerance=0)
    with pytest.raises(InputError, match="grid_tolerance must be >= 0"):
        evaluate(tmp_path / "exact", tmp_path / "rounded", grid_tolerance=-1)
    refused = unetpp("evaluate", tmp_path / "exact", tmp_path / "other")
    assert refused.returncode == 1
    assert unetpp("evaluate", tmp_path / "exact", tmp_path / "other", "--grid-tolerance", "0.5").returncode == 0
    assert unetpp("evaluate", tmp_path / "exact", tmp_path / "rounded").returncode == 0  # its default is ours


def test_hd95_agrees_with_simpleitk():
    """Directed distances from SimpleITK's exact distance map, their 95th percentiles by hand."""
    import SimpleITK

    prediction, reference = blobs(3)
    spacing = (0.7, 1.1, 2.5)

    def directed(first, second):
        edges = [mask & ~np.asarray(erode(mask)) for mask in (first, second)]
        image = SimpleITK.GetImageFromArray(edges[1].astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        far = SimpleITK.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        return np.percentile(np.abs(SimpleITK.GetArrayFromImage(far))[edges[0]], 95)

    def erode(mask):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        return SimpleITK.GetArrayFromImage(SimpleITK.BinaryErode(image, (1, 1, 1), SimpleITK.sitkCross)) > 0

    ours = compare_masks(prediction, reference, spacing=spacing, tolerance=1.0, voxel_size=1.0)
    assert ours.hd95 == pytest.approx(max(directed(prediction, reference), directed(reference, prediction)), abs=1e-4)


def test_identical_empty_and_missing_labels():
    mask, nothing = blobs(0)[0], np.zeros((24, 30, 20), bool)

    def metrics(prediction, reference):
        return compare_masks(prediction, reference, spacing=(1, 1, 1), tolerance=1.0, voxel_size=0.001)

    same, none, missed, invented = (
        metrics(mask, mask), metrics(nothing, nothing), metrics(nothing, mask), metrics(mask, nothing)
    )  # fmt: skip
    assert (same.dice, same.iou, same.hd95, same.surface_dice, same.volume_error) == (1, 1, 0, 1, 0)
    assert (none.dice, none.iou, none.hd95, none.surface_dice) == (1, 1, 0, 1)
    assert none.volume_error_percent is None
    assert (missed.dice, missed.iou, missed.hd95, missed.surface_dice) == (0, 0, None, 0)
    assert missed.volume_error_percent == -100 and missed.volume_error == pytest.approx(-mask.sum() / 1000)
    assert (invented.dice, invented.hd95, invented.volume_error_percent) == (0, None, None)


def test_a_crop_to_the_box_changes_nothing_at_the_images_border():
    prediction, reference = (np.zeros((12, 12, 12), bool) for _ in range(2))
    prediction[:5, :5, :5], reference[:6, :4, :5] = True, True
    inside = [np.pad(mask, 6) for mask in (prediction, reference)]
    options = {"spacing": (1, 1, 1), "tolerance": 0.5, "voxel_size": 1.0}
    assert compare_masks(prediction, reference, **options).hd95 == compare_masks(*inside, **options).hd95


@pytest.fixture
def folders(tmp_path):
    """Predictions and references of three cases; the second prediction lacks label 2."""
    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    for index in range(3):
        reference = phantom((16, 18, 14), seed=index)[1]
        prediction = np.roll(reference, index, axis=0)
        if index == 1:
            prediction = np.where(prediction == 2, 0, prediction)
        save_nifti(tmp_path / "ref" / f"case_{index}.nii.gz", reference, affine)
        save_nifti(tmp_path / "pred" / f"case_{index}_seg.nii.gz", prediction, affine)
    return tmp_path / "pred", tmp_path / "ref"


def test_folders(folders):
    report = evaluate(*folders)
    assert [(row.case, row.label) for row in report.rows] == [(f"case_{i}", label) for i in range(3) for label in "12"]
    assert report.rows[0].dice == report.rows[1].dice == 1 and report.rows[3].dice == 0
    assert report.worst(1) == [("case_1", pytest.approx(np.mean([report.rows[2].dice, 0])))]
    (hd95,) = (entry for entry in report.summary if (entry.label, entry.metric) == ("2", "hd95"))
    assert hd95.cases == 2 and hd95.low <= hd95.mean <= hd95.high
    named = evaluate(*folders, labels={1: "front", 2: "back"})
    assert {row.label for row in named.rows} == {"front", "back"} and named.rows[0].dice == 1


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        values = rng.normal(0.8, 0.1, 40)
        rows = [CaseMetrics(value, 0, 0, 0, 0, 0, str(index), "1") for index, value in enumerate(values)]
        entry = summarise(rows)[0]
        hits += entry.low <= 0.8 <= entry.high
    assert 50 <= hits <= 60


def test_images_beside_label_maps_are_not_scored(folders):
    """References as MRI and label map in one folder, predictions as `segment` writes them with all that it can."""
    pred, ref = folders
    expected = evaluate(pred, ref).rows
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    for index in range(3):
        name, array = f"case_{index}", phantom((16, 18, 14), seed=index)[0]
        (ref / f"{name}.nii.gz").rename(ref / f"{name}_seg.nii.gz")
        save_nifti(ref / f"{name}.nii.gz", np.rint(array), affine)
        save_nifti(pred / f"{name}_uncertainty.nii.gz", array, affine)
        SimpleITK.WriteImage(SimpleITK.ReadImage(pred / f"{name}_seg.nii.gz"), pred / f"{name}.seg.nrrd")
    assert evaluate(pred, ref).rows == expected
    for path in pred.glob("*_seg.nii.gz"):  # --format segnrrd alone
        path.unlink()
    assert evaluate(pred, ref).rows == expected


def test_cases_may_be_called_uncertain(tmp_path):
    for name in ("a", "b_uncertainty", "c_uncertainty", "c"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert {name: path.name for name, path in cases_by_name(tmp_path).items()} == {
        "a": "a.nii.gz",
        "b_uncertainty": "b_uncertainty.nii.gz",
        "c": "c.nii.gz",
    }


def test_one_file_against_one_file(folders):
    first, second = sorted(folders[0].iterdir())[0], sorted(folders[1].iterdir())[2]
    assert [row.case for row in evaluate(first, second).rows] == ["case_0", "case_0"]


def test_references_without_prediction_are_refused_or_named(folders):
    (folders[0] / "case_2_seg.nii.gz").unlink()
    with pytest.raises(InputError, match=r"every reference must have a prediction, got none for \['case_2'\]"):
        evaluate(*folders)
    assert evaluate(*folders, partial=True).without_prediction == ("case_2",)
    with pytest.raises(InputError, match="every prediction must have a reference"):
        evaluate(*reversed(folders))


def test_what_is_refused(folders):
    pred, ref = folders
    with pytest.raises(InputError, match=r"labels must be among \[0, 1\], got also \[2\]"):
        evaluate(pred, ref, labels={1: "front"})
    with pytest.raises(InputError, match="tolerance must be >= 0"):
        evaluate(pred, ref, tolerance=-1.0)
    reference = phantom((16, 18, 14))[1]
    save_nifti(pred / "case_0_seg.nii.gz", reference, np.diag([-1.0, 1.5, 2.1, 1.0]))
    with pytest.raises(GeometryError, match=r"same grid within .* in case case_0"):
        evaluate(pred, ref)
    save_nifti(pred / "case_0_seg.nii.gz", reference + np.float32(0.5), np.diag([-1.0, 1.5, 2.0, 1.0]))
    with pytest.raises(InputError, match="whole numbers"):
        evaluate(pred, ref)
    save_nifti(pred / "case_0.nii.gz", reference)
    save_nifti(pred / "case_0.nii", reference)
    with pytest.raises(AmbiguityError):
        evaluate(pred, ref)


def test_maps_without_any_label_are_refused(tmp_path):
    for name in ("a", "b"):
        save_nifti(tmp_path / f"{name}.nii.gz", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InputError, match="must hold a label"):
        evaluate(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")


def test_pictures_are_compared_in_pixels_with_values_of_their_own(tmp_path):
    from PIL import Image

    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 1
    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
    moved = Volume(np.roll(mask, 3, axis=0)[None, ..., None], np.eye(4))
    write_label_picture(moved, tmp_path / "pred" / "cell_seg.png", colours=[(9, 9, 9)])
    Image.fromarray(mask.T * 255).save(tmp_path / "ref" / "cell.png")
    with pytest.raises(InputError, match=r"values must be \[0, 1\], got also \[255\]"):
        evaluate(tmp_path / "pred", tmp_path / "ref", reference_values=(0, 1))
    report = evaluate(tmp_path / "pred", tmp_path / "ref", reference_values=(0, 255))
    (row,) = report.rows
    assert report.unit == "px" and row.hd95 == pytest.approx(3) and row.dice == pytest.approx(0.7)
    save_nifti(tmp_path / "ref" / "cell.nii.gz", mask)
    (tmp_path / "ref" / "cell.png").unlink()
    with pytest.raises(AmbiguityError, match=r"all volumes .* or all pictures"):
        evaluate(tmp_path / "pred", tmp_path / "ref")


@pytest.mark.slow
def test_command_writes_json_table_and_plot(folders, tmp_path):
    report = tmp_path / "report.json"
    result = unetpp("evaluate", *folders, "-o", report)
    written = ", ".join(str(report.with_suffix(suffix)) for suffix in (".json", ".csv", ".svg"))
    assert f"written: {written}" in result.stderr
    assert result.returncode == 0, result.stderr
    assert "case_1" in result.stdout and "HD95 mm" in result.stdout
    document = json.loads(report.read_text())
    assert document["unit"] == "mm" and "Label in neither map" in document["conventions"]
    with report.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["rows"]) == 6 and rows[3]["hd95"] == ""
    assert document["rows"][3]["hd95"] is None
    assert "</svg>" in report.with_suffix(".svg").read_text()
    nowhere = unetpp("evaluate", *folders, "-o", tmp_path / "absent" / "report.json")
    assert nowhere.returncode == 1 and "folder must exist" in nowhere.stderr and nowhere.stdout == ""
    again = unetpp("evaluate", *folders, "-o", report)
    assert again.returncode == 1 and "exists; choose another place or allow overwriting (--overwrite)" in again.stderr
    assert unetpp("evaluate", *folders, "-o", report, "--overwrite").returncode == 0
