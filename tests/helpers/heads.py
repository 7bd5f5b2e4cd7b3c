"""A made head of blocks, each with an intensity of its own; a locator that knows them; a bundle that segments it."""

import json
import shutil

import nibabel as nib
import numpy as np
import torch

from helpers import BUNDLE, ROOT
from unetpp_monai.bundle import read_bundle
from unetpp_monai.inference import Locator
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.task import read_task
from unetpp_monai.volume import Volume

TASK = ROOT / "configs" / "hippocampus_head"
SHAPE, SPACING = (72, 84, 66), 3
HEAD, BRAIN = ((3, 69), (3, 81), (3, 63)), ((6, 66), (6, 78), (6, 60))  # blocks, mm; their faces lie on the coarse grid
LEFT, RIGHT = ((12, 24), (30, 54), (24, 36)), ((48, 60), (33, 54), (24, 39))  # the two structures
CEREBELLUM = ((18, 54), (6, 24), (6, 21))
INTENSITIES = (0, 80, 30, 20, 120)  # of the classes
SMALL = {  # values of the task for so small a head
    "features": [4, 8, 8],
    "exit_thresholds": [0.3],
    "roi_size": [24, 24, 24],
    "locator_features": [8, 8],
    "locator_margin": 6.0,
    "locator_extent": [60.0, 60.0, 60.0],
    "locator_brain_ml": 100.0,
}


def at(block):
    return tuple(slice(low, high) for low, high in block)


def box(block, margin=6, shape=SHAPE):
    """A block and the margin around it, as indices."""
    return tuple(
        slice(max(low - margin, 0), min(high + margin, size)) for (low, high), size in zip(block, shape, strict=True)
    )


def made_classes():
    """Class of every voxel, 1 mm, RAS."""
    classes = np.zeros(SHAPE, np.uint8)
    for block, number in ((HEAD, 4), (BRAIN, 2), (CEREBELLUM, 3), (LEFT, 1), (RIGHT, 1)):
        classes[at(block)] = number
    return classes


def made_head(classes=None, scale=1.0):
    """A volume of the classes, with noise that is zero in the mean of every coarse voxel."""
    classes = made_classes() if classes is None else classes
    coarse = [size // SPACING for size in SHAPE]
    noise = np.random.default_rng(0).normal(0, 3, (*coarse, SPACING**3)).astype(np.float32)
    noise -= noise.mean(-1, keepdims=True)
    x, y, z = coarse
    noise = noise.reshape(x, y, z, 3, 3, 3).transpose(0, 3, 1, 4, 2, 5).reshape(SHAPE)
    image = np.array(INTENSITIES, np.float32)[classes] + noise * (classes > 0)
    return Volume((image * scale)[None], np.array([[1, 0, 0, -36], [0, 1, 0, -50], [0, 0, 1, 7], [0, 0, 0, 1.0]]))


def turned(volume, axcodes):
    """The same volume with other axes."""
    image = nib.Nifti1Image(volume.array[0], volume.affine)
    start, end = (nib.orientations.axcodes2ornt(codes) for codes in (volume.axcodes, axcodes))
    image = image.as_reoriented(nib.orientations.ornt_transform(start, end))
    return Volume(np.asarray(image.dataobj)[None], image.affine)


class Nearest(torch.nn.Module):
    """Takes every voxel for the class whose intensity is the nearest, when 120 has become 1."""

    def forward(self, image):
        means = torch.tensor(INTENSITIES, dtype=torch.float32) / max(INTENSITIES)
        return -((image - means[None, :, None, None, None]) ** 2) * 1e4


def made_locator(**values):
    """The task's locator for made heads, which makes no mistake."""
    stated = {**read_task(TASK).values, **SMALL, **values}
    options = {key.removeprefix("locator_"): value for key, value in stated.items() if key.startswith("locator_")}
    locator = Locator(pixdim=stated["pixdim"], **options)
    locator.network = Nearest()
    return locator


def taught(steps=300):
    """A network of the task's kind that labels made heads without a mistake."""
    torch.manual_seed(0)
    network = UNetPlusPlus(3, 1, len(INTENSITIES), SMALL["locator_features"])
    classes = torch.from_numpy(made_classes()[1::3, 1::3, 1::3].astype(np.int64))[None]
    image = torch.from_numpy(np.array(INTENSITIES, np.float32)[classes[0].numpy()] / max(INTENSITIES))[None, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    weights = torch.bincount(classes.flatten()).float().rsqrt()
    for _ in range(steps):
        (logits,) = network(image)
        if torch.equal(logits.argmax(1), classes) and logits.softmax(1).amax(1).mean() > 0.99:
            return network
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, classes, weight=weights / weights.mean()).backward()
        optimizer.step()
    raise AssertionError(f"the locator must have learned made heads in {steps} steps")


def write_head_bundle(root, locator, **values):
    """A bundle of the task for made heads, and beside it the one that segments crops with the same network."""
    stated = {**SMALL, **values}
    segmenter = UNetPlusPlus(3, 1, 3, stated["features"], seed=13)
    for name, task, weights in (
        ("head", TASK, {**prefixed("locate.", locator), **prefixed("segment.", segmenter)}),
        ("crop", ROOT / "configs" / "hippocampus", segmenter.state_dict()),
    ):
        folder = root / name
        (folder / "models").mkdir(parents=True)
        shutil.copytree(BUNDLE / "configs", folder / "configs")
        config = json.loads((ROOT / "unetpp_monai" / "base" / "inference.json").read_text())
        found = {**read_task(task).values, **{key: stated[key] for key in stated if name == "head" or key[:3] != "loc"}}
        config |= {key: value for key, value in found.items() if key in config and key != "dataset_dir"}
        (folder / "configs" / "inference.json").write_text(json.dumps(config))
        for other in ("train", "evaluate", "multi_gpu_train"):
            (folder / "configs" / f"{other}.json").unlink()
        base = json.loads((ROOT / "unetpp_monai" / "base" / "metadata.json").read_text())
        metadata = {**base, **read_task(task).metadata}
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
        torch.save(weights, folder / "models" / "model.pt")
    return read_bundle(root / "head"), read_bundle(root / "crop")


def prefixed(part, network):
    return {f"{part}{key}": value for key, value in network.state_dict().items()}
