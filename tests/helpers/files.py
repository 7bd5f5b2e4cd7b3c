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


def save_forms(path, kind, array):
    """A NIfTI file that says where it is in an unusual way."""
    affine = np.array([[1, 0, 0, 10], [0, 1, 0, -48], [0, 0, 1, -32], [0, 0, 0, 1.0]])
    scale = {"metre": 1e-3, "micron": 1e3}.get(kind, 1.0)
    affine = np.diag([scale, scale, scale, 1]) @ affine
    image = nib.Nifti1Image(array, None)
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    image.header.set_xyzt_units({"metre": "meter", "micron": "micron"}.get(kind, "mm"))
    if kind != "bare":
        image.set_sform(affine, code=2)
        turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3), (1, 2, 3))
        image.set_qform(turn @ affine if kind == "turned" else affine, code=1)
    nib.save(image, path)
    return path


def geometry_fields(header):
    """What says where voxels are, as stored."""
    names = ["sform_code", "qform_code", "xyzt_units", *(f"quatern_{name}" for name in "bcd")]
    names += [*(f"qoffset_{axis}" for axis in "xyz"), *(f"srow_{axis}" for axis in "xyz")]
    return {name: header[name].tolist() for name in names} | {"pixdim": header["pixdim"][:4].tolist()}
