"""The same made cases as data sets of every layout."""

import csv
import gzip
import json
import os

import nibabel as nib
import numpy as np

from helpers import phantom
from unetpp_monai.planning.examine import examine

NAMES = [f"sub-{number:02d}" for number in range(1, 7)]
LABELS = {1: "front", 2: "back"}
SPACING = np.diag([1.0, 1.0, 1.5, 1.0])


def save(path, array, affine=SPACING):
    """As `save_nifti`, but always the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
    return path


def made_cases(count=6, shape=(20, 28, 18)):
    """Name -> image and label map."""
    return {name: phantom(shape, seed=seed) for seed, name in enumerate(NAMES[:count])}


def nnunet(root, cases, ending=".nii.gz", **stated):
    for name, (image, label) in cases.items():
        save(root / "imagesTr" / f"{name}_0000{ending}", image)
        save(root / "labelsTr" / f"{name}{ending}", label)
    labels = {"background": 0, **{label: value for value, label in LABELS.items()}}
    content = {
        "channel_names": {"0": "T1"},
        "labels": labels,
        "file_ending": ending,
        **({"numTraining": len(cases)} if cases else {}),
    }
    (root / "dataset.json").write_text(json.dumps({**content, **stated}))
    return root


def msd(root, cases, **stated):
    folders(root, cases, "imagesTr", "labelsTr")
    names = [f"{name}.nii.gz" for name in cases]
    content = {
        "name": "made",
        "modality": {"0": "T1"},
        "labels": {"0": "background", **{str(value): label for value, label in LABELS.items()}},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
    }
    (root / "dataset.json").write_text(json.dumps({**content, **stated}))
    return root


def bids(root, cases):
    for name, (image, label) in cases.items():
        save(root / name / "anat" / f"{name}_T1w.nii.gz", image)
        save(root / "derivatives" / "manual" / name / "anat" / f"{name}_dseg.nii.gz", label)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "made", "BIDSVersion": "1.9.0"}))
    rows = ["index\tname", *(f"{value}\t{label}" for value, label in LABELS.items())]
    (root / "derivatives" / "manual" / "dseg.tsv").write_text("\n".join(rows) + "\n")
    return root


def folders(root, cases, images="images", labels="labels"):
    for name, (image, label) in cases.items():
        save(root / images / f"{name}.nii.gz", image)
        save(root / labels / f"{name}.nii.gz", label)
    return root


def table(root, cases, **columns):
    folders(root, cases, "scans", "maps")
    with (root / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", *columns])
        for at, name in enumerate(cases):
            extra = [values[at] for values in columns.values()]
            rows.writerow([f"scans/{name}.nii.gz", f"maps/{name}.nii.gz", *extra])
    return root / "cases.csv"


def examine_or_die(case, labels=()):
    """As `examine`, in a process that is killed by one case."""
    if case.name == "sub-04":
        os._exit(9)
    return examine(case, labels)
