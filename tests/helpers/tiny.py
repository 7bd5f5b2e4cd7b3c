"""Networks that train in seconds."""

import json

import torch

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
