"""Phantoms and fixtures: real data are used where `shared/` lies beside the checkout, generated images otherwise."""

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
# validators and readers of others lie beside Python, whether its environment is activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
SHARED = ROOT.parent / "shared"
BUNDLE = ROOT / "bundle"


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


@pytest.fixture
def image_file(tmp_path):
    """A NIfTI phantom with anisotropic voxels, LPS axes and an offset."""
    affine = np.diag([-1.1, -0.9, 1.2, 1.0])
    affine[:3, 3] = (20, 30, -15)
    return save_nifti(tmp_path / "case_1.nii.gz", phantom()[0], affine)


@pytest.fixture(scope="session")
def msd_folder(tmp_path_factory):
    """Six labelled phantoms in the layout of the Medical Segmentation Decathlon."""
    folder = tmp_path_factory.mktemp("msd")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index in range(6):
        image, labels = phantom(seed=index)
        save_nifti(folder / "imagesTr" / f"case_{index}.nii.gz", image)
        save_nifti(folder / "labelsTr" / f"case_{index}.nii.gz", labels)
    return folder


@pytest.fixture(scope="session")
def shared_data():
    """Real data beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real data in {SHARED / 'data'}")
    return SHARED / "data"
