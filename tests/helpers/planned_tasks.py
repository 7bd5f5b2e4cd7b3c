"""Made data sets of a user's own, planned; what train and segment make of their images."""

import json

import numpy as np
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from helpers.datasets import nnunet, save
from unetpp_monai.cli import app
from unetpp_monai.task import BASE

THICK = np.diag([0.7, 0.7, 4.0, 1.0])
AIR = -1000  # HU


def plan(*arguments, code=0):
    """Run `unetpp plan` in this process."""
    done = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done


def thick_slices(root, *, shape=(48, 48, 10), count=10, rare=(0, 3, 5, 9), scattered=False):
    """Two channels of thick slices in files of their own, patients of two cases; label 3 is small and rare.

    Scattered: both structures are small, and anywhere.
    """
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    nnunet(root, {}, channel_names={"0": "T2", "1": "CT"}, labels={"background": 0, "organ": 1, "lesion": 3})
    x, y, z = shape
    for at in range(count):
        label = np.zeros(shape, np.uint8)
        if scattered:
            label[cut(rng, shape, (16, 16, 4))] = 1
            label[cut(rng, shape, (5, 5, 2))] = 3 if at in rare else 1
        else:
            label[x // 5 : x * 2 // 3, y // 4 : y * 3 // 4, z // 5 : z * 4 // 5] = 1
            label[x // 4 : x // 4 + 4, y // 3 : y // 3 + 4, z // 2 : z // 2 + 2] = 3 if at in rare else 1
        name = f"p{at // 2}_{at:02d}"
        for channel in (0, 1):
            image = (rng.normal(100, 20, shape) + 60 * (label > 0) + 40 * (label == 3)).astype(np.int16)
            save(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image, THICK)
        save(root / "labelsTr" / f"{name}.nii.gz", label, THICK)
    return root


def cut(rng, shape, size):
    """A box of a size, anywhere."""
    starts = [int(rng.integers(whole - part)) for whole, part in zip(shape, size, strict=True)]
    return tuple(slice(start, start + part) for start, part in zip(starts, size, strict=True))


def train_config(task, **values):
    """`train.json` with the values of a task, as `unetpp train` runs it."""
    parser = ConfigParser()
    parser.read_config([str(BASE / "train.json"), str(task / "task.json")])
    for key, value in {"cases_file": str(task / "cases.json"), "bundle_root": str(task), **values}.items():
        parser[key] = value
    return parser


def untrained(task, seed=0):
    """Give a task weights of no training, so that it can be packed."""
    parser = train_config(task)
    torch.manual_seed(seed)
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), task / "model.pt")
    return task


def values_of(task):
    return json.loads((task / "task.json").read_text())
