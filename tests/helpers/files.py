"""Files that are spoilt."""

import gzip

import nibabel as nib
import numpy as np

from helpers import phantom, save_nifti


def broken_files(folder):
    whole = gzip.compress(nib.Nifti1Image(phantom()[0], np.eye(4)).to_bytes())
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.nii.gz").write_bytes(b"not gzip")
    (folder / "empty.nii").write_bytes(b"")
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\nnonsense")
    (folder / "notes.txt").write_text("hello")
    (folder / "folder").mkdir()
    nan = phantom((5, 6, 7))[0]
    nan[0, 0, 0] = np.nan
    save_nifti(folder / "nan.nii", nan)
    nan[0, 0, 0] = np.inf
    save_nifti(folder / "inf.nii", nan)
    save_nifti(folder / "complex.nii", np.zeros((3, 3, 3), np.complex64))
    save_nifti(folder / "zero.nii", np.zeros((3, 0, 3), np.float32))
    singular = nib.Nifti1Image(phantom((5, 6, 7))[0], None)
    singular.header.set_sform(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), code=1)
    nib.save(singular, folder / "singular.nii")
