"""The data set that nnU-Net is given beside ours: the same voxels, labels 0, 1, 2, ..."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT))
from benchmarks.nnunet.data import DATASET, write_raw

AFFINE = np.diag([0.5, 0.5, 4.0, 1.0])


def write(path, array):
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        nib.save(nib.Nifti1Image(array, AFFINE), path)


def read(path):
    return np.asarray(Image.open(path) if path.suffix == ".png" else nib.load(path).dataobj)


def made_task(folder, ending, values, count=3):
    """A planned task of so many cases, each a fold; the label maps have all of `values`."""
    shape = (6, 5) if ending == ".png" else (6, 5, 4)
    folder.mkdir()
    names = {str(at): name for at, name in enumerate(["background", "organ", "lesion"][: len(values)])}
    pred = {"channel_def": names}
    stated = {"spatial_dims": len(shape), "in_channels": 1, "out_channels": len(values)}
    stated |= {"label_values": values, "intensity": [{"kind": "clip"}]}
    (folder / "task.json").write_text(json.dumps(stated))
    (folder / "metadata.json").write_text(json.dumps({"network_data_format": {"outputs": {"pred": pred}}}))
    rng, folds = np.random.default_rng(0), []
    for at in range(count):
        case = {"image": folder / f"c{at}_image{ending}", "label": folder / f"c{at}_label{ending}"}
        write(case["image"], rng.integers(0, 200, shape).astype(np.uint8))
        write(case["label"], rng.permutation(np.resize(values, np.prod(shape))).reshape(shape).astype(np.uint8))
        folds.append([{key: str(path) for key, path in case.items()}])
    return folds


@pytest.mark.parametrize("ending", [".nii.gz", ".png"])
@pytest.mark.parametrize("values", [[0, 1, 3], [0, 7], [0, 85, 255], [0, 1, 2]])
def test_labels_are_counted_from_0_and_nothing_else_changes(tmp_path, ending, values):
    folds = made_task(tmp_path / "task", ending, values)
    root = tmp_path / "raw" / DATASET
    splits = write_raw(tmp_path / "task", folds, root)
    names = [f"c{at}_image" for at in range(3)]
    assert [split["val"] for split in splits] == [[name] for name in names]
    assert [sorted([*split["train"], *split["val"]]) for split in splits] == [names] * 3
    for fold in range(3):
        for part in ("Tr", f"Val{fold}"):
            image, label = root / f"images{part}" / f"{names[fold]}_0000{ending}", root / f"labels{part}"
            written = read(label / f"{names[fold]}{ending}")
            assert np.array_equal(np.array(values)[written], read(tmp_path / "task" / f"c{fold}_label{ending}"))
            assert set(np.unique(written)) == set(range(len(values)))
            assert image.resolve() == (tmp_path / "task" / f"c{fold}_image{ending}").resolve()
            if ending == ".nii.gz":
                assert np.array_equal(nib.load(label / f"{names[fold]}{ending}").affine, AFFINE)
    described = json.loads((root / "dataset.json").read_text())
    assert sorted(described["labels"].values()) == list(range(len(values)))
    assert described["channel_names"] == {"0": "CT"} and described["numTraining"] == 3
