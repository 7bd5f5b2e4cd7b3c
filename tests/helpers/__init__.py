"""What tests share: places, phantoms, servers and viewers; no test stands here."""

from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
DEFAULT_BUNDLE = ROOT / "bundle"
HEAD = ROOT / "unetpp_monai" / "sample" / "mni_head.nii.gz"  # with its skull
HELPERS = Path(__file__).parent
TASKS = sorted(path.parent for path in (ROOT / "configs").glob("*/task.json"))


def __getattr__(name):
    """`BUNDLE`, of crops whatever the default is; made where it is asked for, as that loads the libraries."""
    if name != "BUNDLE":
        raise AttributeError(name)
    from unetpp_monai.bundle import read_bundle

    globals()[name] = read_bundle("hippocampus").root
    return globals()[name]


def phantom(shape=(34, 50, 36), seed=0):
    """A noisy image `(X, Y, Z)` float32 with an ellipsoid, and its front half as label 1, its back half as label 2."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    inside = (grid[0] ** 2 * 5 + grid[1] ** 2 * 1.6 + grid[2] ** 2 * 5) < 1
    labels = np.where(inside, np.where(grid[1] > 0, 1, 2), 0).astype(np.uint8)
    image = 40 + 60 * inside + rng.normal(0, 5, shape)
    return image.astype(np.float32), labels


def save_nifti(path, array, affine=None, unit="mm"):
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path
