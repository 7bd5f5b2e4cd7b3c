"""A bundle that takes prompts: the hippocampus weights, and kernels of prompts that do what a training would teach."""

import json

import torch

from helpers import BUNDLE
from unetpp_monai.bundle import write_bundle
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.prompts import MARKED
from unetpp_monai.task import check_task
from unetpp_monai.training.initial_weights import fit_weights

FIRST = "nodes.x_0_0.block.conv_0.conv.weight"


def interactive_bundle(folder, *, strength=0.5 / MARKED, reach=None):
    """Write the bundle of `hippocampus_interactive` into a folder; without both, prompts change nothing."""
    task = check_task("hippocampus_interactive")
    network = UNetPlusPlus(3, 1, 3, task.values["features"], prompt_channels=3, deep_supervision=False)
    stored = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    state = fit_weights(stored, network.state_dict(), prompts=3).state
    state[FIRST][:, 1:] = torch.randn(state[FIRST][:, 1:].shape, generator=torch.Generator().manual_seed(0)) * strength
    folder.mkdir(parents=True)
    torch.save(state, folder / "weights.pt")
    write_bundle(task, folder / "bundle", weights=folder / "weights.pt")
    if reach is not None:
        restate(folder / "bundle", prompt_reach=reach)
    return folder / "bundle"


def restate(root, **values):
    """State other values in a bundle."""
    path = root / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    (root / "SHA256SUMS").unlink(missing_ok=True)


def tiny_interactive(folder, seed=4):
    """The same with a network of random weights and windows of 16 voxels, for tests of what is around it."""
    root = interactive_bundle(folder)
    features = [4, 8, 8, 8]
    restate(root, features=features, roi_size=[16, 16, 16])
    network = UNetPlusPlus(3, 1, 3, features, prompt_channels=3, deep_supervision=False, seed=seed)
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root
