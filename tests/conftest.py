"""Phantoms and fixtures: real data are used where `shared/` lies beside the checkout, generated images otherwise."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED, phantom, save_nifti

# validators and readers of others lie beside Python, whether its environment is activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


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
