"""The cases of a planned task as a data set of nnU-Net: links and copies, never another voxel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from unetpp_monai.io import case_name

DATASET = "Dataset501_BESIDE"
CONFIGURATIONS = ("2d", "3d_fullres")


def write_raw(task: Path, folds: Sequence[Sequence[Mapping[str, Any]]], root: Path) -> list[dict[str, list[str]]]:
    """Write `imagesTr`, `labelsTr` and, for each fold, its other cases as `imagesValN` and `labelsValN`.

    Args:
        task: that `unetpp plan` made.
        folds: of its cases.
        root: folder to write, `raw/DatasetNNN_NAME`.

    Returns:
        nnU-Net's splits.
    """
    values = json.loads((task / "task.json").read_text())
    metadata = json.loads((task / "metadata.json").read_text())
    ending = ".png" if values["spatial_dims"] == 2 else ".nii.gz"
    stored = values.get("label_values") or list(range(values["out_channels"]))
    names: list[list[str]] = []
    for fold, cases in enumerate(folds):
        names.append([])
        for case in cases:
            images = case["image"] if isinstance(case["image"], list) else [case["image"]]
            name = case_name(images[0], values.get("channel_suffixes", ()) if len(images) > 1 else ())
            names[-1].append(name)
            for folder in ("Tr", f"Val{fold}"):
                for channel, image in enumerate(images):
                    _link(Path(image), root / f"images{folder}" / f"{name}_{channel:04d}{ending}")
                _write_label(Path(case["label"]), root / f"labels{folder}" / f"{name}{ending}", stored)
    described = metadata["network_data_format"]
    labels = {name: int(index) for index, name in described["outputs"]["pred"]["channel_def"].items()}
    kinds = {"zscore": "MRI", "clip": "CT"}
    rules = values.get("intensity") or [{"kind": "zscore"}] * values["in_channels"]
    channels = {str(number): kinds[rule["kind"]] for number, rule in enumerate(rules)}
    described = {
        "channel_names": channels,
        "labels": labels,
        "numTraining": sum(map(len, names)),
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(described, indent=1) + "\n")
    (root.parents[1] / "labels.json").write_text(json.dumps(labels) + "\n")
    every = [name for fold in names for name in fold]
    return [{"train": [name for name in every if name not in fold], "val": fold} for fold in names]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    if target.suffix == ".gz" and source.suffix != ".gz":
        nib.save(nib.load(source), target)
    else:
        target.symlink_to(source)


def _write_label(source: Path, target: Path, stored: Sequence[int]) -> None:
    """Link a label map, or write one whose values are 0, 1, 2, ..."""
    if list(stored) == list(range(len(stored))):
        return _link(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        array = np.asarray(Image.open(source))
        Image.fromarray(np.searchsorted(stored, array).astype(np.uint8)).save(target)
    else:
        image = nib.load(source)
        array = np.searchsorted(stored, np.asanyarray(image.dataobj)).astype(np.uint8)
        nib.save(nib.Nifti1Image(array, image.affine), target)
    return None
