"""`monai.bundle run` writes the headers and voxels of the command line."""

import nibabel as nib
import numpy as np
import pytest
from helpers import BUNDLE, phantom
from helpers.commands import run
from helpers.files import geometry_fields, save_forms

from unetpp_monai import Segmenter, read_volume, write_nifti

KINDS = ("bare", "metre", "micron", "turned")


@pytest.mark.slow
def test_runs_of_monai_write_what_the_command_line_writes(tmp_path):
    for name in ("images", "ours"):
        (tmp_path / name).mkdir()
    sources = [save_forms(tmp_path / "images" / f"{kind}.nii.gz", kind, phantom()[0]) for kind in KINDS]
    arguments = ("--config_file", BUNDLE / "configs" / "inference.json", "--bundle_root", BUNDLE, "--device", "cpu")
    options = ("--dataset_dir", tmp_path / "images", "--output_dir", tmp_path / "theirs", "--uncertainty", True)
    run(*arguments, *options, folder=tmp_path)
    segmenter = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")
    for source in sources:
        expected = segmenter(read_volume(source), uncertainty=True)
        for ending, volume in (("seg", expected.labels), ("uncertainty", expected.uncertainty)):
            name = f"{source.name.removesuffix('.nii.gz')}_{ending}.nii.gz"
            write_nifti(volume, tmp_path / "ours" / name, like=source)
            ours, theirs = nib.load(tmp_path / "ours" / name), nib.load(tmp_path / "theirs" / name)
            assert geometry_fields(ours.header) == geometry_fields(theirs.header), name
            assert ours.get_data_dtype() == theirs.get_data_dtype()
            np.testing.assert_allclose(theirs.get_fdata(), ours.get_fdata(), atol=1e-5)
