"""Networks that train in seconds, and bundles that say something else."""

import json
import shutil

import torch

from helpers import BUNDLE
from unetpp_monai.bundle import read_bundle

TINY = {
    "features": "[4,8,8,8]",
    "patch_size": "[24,24,24]",
    "roi_size": "[24,24,24]",
    "num_folds": 3,
    "batch_size": 2,
    "val_interval": 1,
    "warmup_epochs": 0,
}


def make_tiny(root, seed=0):
    """Shrink a copied bundle to a network of random weights that learns phantoms in seconds."""
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text())
        config |= {"features": [4, 8, 8, 8], "roi_size": [32, 48, 32], "sw_batch_size": 4}
        config |= {"patch_size": [32, 48, 32], "batch_size": 1} if name == "train" else {}
        path.write_text(json.dumps(config))
    parser = read_bundle(root).parser()
    parser["network_def"]["seed"] = seed
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def bundle_with(folder, **values):
    """Copy the default bundle into a folder, with other values in its `inference.json`."""
    root = folder / f"bundle_{len(list(folder.iterdir()))}"
    shutil.copytree(BUNDLE, root)
    path = root / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return root
