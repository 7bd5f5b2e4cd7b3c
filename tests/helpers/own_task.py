"""A task of made cases, and folds of it as a training leaves them, taught in seconds."""

import json

import numpy as np
import torch

from helpers import phantom, save_nifti
from unetpp_monai.bundle import read_bundle, write_bundle
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.task import RECORD, RUNS, TRAINED, check_task
from unetpp_monai.workflows.validation import validate_run

VALUES = {
    "out_channels": 3,
    "features": [4, 8, 8],
    "pixdim": [1.0, 1.0, 1.0],
    "patch_size": [24, 24, 24],
    "roi_size": [24, 24, 24],
    "head_weights": [0.6, 0.4],
    "num_folds": 2,
    "warmup_epochs": 0,
    "label_values": [0, 7, 9],
    "cases_file": "cases.json",
    "channel_suffixes": ["_0000"],
}
PEOPLE = [f"kim_lee_{number}" for number in range(6)]
NAMES = [f"patient_{name}" for name in ("ann", "bob", "cid", "dan", "eve", "fay")]


def make_own_task(folder):
    """A task in `folder/organ`, whose images and labels lie in `folder/data`."""
    task, data = folder / "organ", folder / "data"
    task.mkdir(parents=True)
    data.mkdir()
    rng = np.random.default_rng(0)
    cases = []
    for number, name in enumerate(NAMES):
        image, label = phantom(tuple(rng.integers(26, 36, 3)), seed=number)
        save_nifti(data / f"{name}_0000.nii.gz", image)
        save_nifti(data / f"{name}.nii.gz", np.array([0, 7, 9], np.uint8)[label])
        cases.append({"name": name, "image": f"{name}_0000.nii.gz", "label": f"{name}.nii.gz", "fold": number % 2})
    pred = {"num_channels": 3, "channel_def": {"0": "background", "1": "front", "2": "back"}}
    image = {"modality": "MR", "num_channels": 1, "channel_def": {"0": "T1"}, "format": "magnitude"}
    common = {"type": "image", "spatial_shape": ["*"] * 3, "dtype": "float32", "value_range": [], "is_patch_data": True}
    metadata = {
        "name": "Own organ",
        "version": "0.1.0",
        "task": "Segmentation of an organ",
        "intended_use": "Research.",
        "network_data_format": {
            "inputs": {"image": {**common, **image}},
            "outputs": {"pred": {**common, **pred, "format": "labels", "modality": "n/a"}},
        },
    }
    values = {**VALUES, "dataset_dir": str(data)}
    for file, content in (("task", values), ("metadata", metadata), ("cases", cases)):
        (task / f"{file}.json").write_text(json.dumps(content))
    return task


def make_data(folder):
    """Images and labels of one organ, as a person keeps them, named as nobody may be named in a document."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate(PEOPLE):
        image, label = phantom(tuple(rng.integers(28, 40, 3)), seed=number)
        save_nifti(folder / "images" / f"{name}.nii.gz", image)
        save_nifti(folder / "labels" / f"{name}.nii.gz", (label > 0).astype(np.uint8))


def teach(seed, steps=60):
    """Weights of a network that has seen patches of phantoms which are none of the task's cases."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # patches are so small that a second one would only be waited for
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = UNetPlusPlus(3, 1, 3, VALUES["features"], deep_supervision=True).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    images, labels = zip(*(phantom((30, 30, 30), seed=100 + number) for number in range(4)), strict=True)
    for _ in range(steps):
        chosen, corner = rng.integers(4, size=2), rng.integers(7, size=3)
        cut = tuple(slice(start, start + 24) for start in corner)
        image = np.stack([(images[one] - images[one].mean()) / images[one].std() for one in chosen])[
            (slice(None), *cut)
        ]
        label = np.stack([labels[one] for one in chosen])[(slice(None), *cut)]
        target = torch.from_numpy(label.astype(np.int64))
        loss = sum(
            torch.nn.functional.cross_entropy(head, target) for head in network(torch.from_numpy(image)[:, None])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return network.state_dict()


def leave_run(task, name, *, seed=0, steps=60):
    """Write what a finished training leaves in its folder; of a fold, its validation too."""
    folder = task / RUNS / name
    folder.mkdir(parents=True)
    torch.save(teach(seed, steps), folder / TRAINED)
    fold = VALUES["num_folds"] if name == "all" else int(name.removeprefix("fold"))
    record = {
        "schema": 1,
        "task": task.name,
        "fold": fold,
        "num_folds": VALUES["num_folds"],
        "seed": 0,
        "max_epochs": 3,
    }
    (folder / RECORD).write_text(json.dumps(record))
    if name != "all":
        validate_run(task, folder, fold=fold, device="cpu")
    return folder


def bundle_of(task, run, root):
    """A bundle of the task with the weights of one of its runs."""
    write_bundle(check_task(task), root, weights=task / RUNS / run / TRAINED)
    return read_bundle(root)
