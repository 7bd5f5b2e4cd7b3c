"""The mended `Spacingd`."""

import numpy as np
import pytest
import torch
from monai import transforms
from monai.data import MetaTensor

from unetpp_monai.transforms import Spacingd


def item(path="case.nii.gz"):
    meta = {"filename_or_obj": path, "affine": np.diag([2.0, 2.0, 2.0, 1.0])}
    return {"image": MetaTensor(torch.rand(1, 8, 8, 8), meta=meta), "image_path": path, "image_meta_dict": {}}


def test_string_entries_survive():
    data = item()
    with pytest.raises(AttributeError, match="no attribute 'update'"):  # the defect; when this fails, drop our class
        transforms.Spacingd("image", (1, 1, 1))(item())
    result = Spacingd("image", (1.0, 1.0, 1.0))(data)
    assert result["image"].shape == (1, 15, 15, 15)
    assert result["image_path"] == data["image_path"]
    assert result["image_meta_dict"]["filename_or_obj"] == "case.nii.gz"  # dictionaries are still updated


def test_inverse_restores_the_grid():
    step = Spacingd("image", (1.0, 1.0, 1.0))
    data = step(item())
    assert step.inverse(data)["image"].shape == (1, 8, 8, 8)
