"""Independent programs give the same values at the same places in the patient, where they can read a case at all."""

import functools
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pydicom
import pytest
from helpers.dicom_cases import RIGHT

from unetpp_monai.dicom.series import read_dicom_series

pytestmark = pytest.mark.slow

LPS_RAS = np.diag([-1.0, -1, 1, 1])
REAL = ("Study1_13_HCropVolume", "Study3_11_HCropVolume", "Study3_26401-T1prereg-52906")
BARE = ("no preamble", "no preamble, no extension", "no preamble in the last file")
NO_META = ("no meta information, implicit", "no meta information, explicit")
NEITHER = ("neither preamble nor meta, implicit", "neither preamble nor meta, explicit")
CANNOT = {  # cases that a program reads otherwise or not at all, and why
    "simpleitk": {
        "MONOCHROME1 is not inverted": "inverts it",
        "modality LUT": "ignores it",
        "slope and intercept of every slice": "gives all slices the integer type of the first",
        "FloatPixelData": "does not know it",
        "DoubleFloatPixelData": "does not know it",
        "big endian, 32 bits": "swaps no bytes",
        "no study and series UID": "needs the UID",
        "enhanced CT, shuffled frames, groups per frame": "leaves frames in the order of the file",
        "enhanced MR, signed": "leaves frames in the order of the file",
        "enhanced, rescale per frame": "leaves frames in the order of the file",
        "enhanced, RLE": "leaves frames in the order of the file",
        "enhanced, JPEG 2000": "leaves frames in the order of the file",
        **dict.fromkeys((*BARE, *NEITHER), "takes it for no DICOM"),
    },
    "highdicom": {
        "FloatPixelData": "fails in its pixel transform",
        "DoubleFloatPixelData": "fails in its pixel transform",
        "gaps of 2.46 and 2.54 mm": "allows 1 % of irregularity",
        "positions in tenths of a millimetre, step 0.625 mm": "allows 1 % of irregularity",
        "one slice 0.1 mm off": "allows 1 % of irregularity",
        "direction cosines of three digits": "wants them orthogonal to more digits",
        "no FrameOfReferenceUID": "needs it",
        "no study and series UID": "needs them",
        "pixel data with a tail": "warns",
        "enhanced objects of one frame each": "takes one object",
        **dict.fromkeys((*BARE, *NO_META, *NEITHER), "pydicom takes it for no DICOM unless it is forced to"),
    },
    "dcm2niix": {
        "modality LUT": "ignores it",
        "gaps of 2.46 and 2.54 mm": "takes the first gap for all",
        "positions in tenths of a millimetre, step 0.625 mm": "takes the first gap for all",
        "32 bits, offset by 2^31": "takes 32 bits for signed",
        "8 bits, signed": "takes 8 bits for unsigned",
        "8 bits in 16, signed": "takes no sign from bit 7",
        "one column": "takes it for no image",
        "enhanced, RLE": "leaves compressed frames in the order of the file",
        "enhanced, JPEG 2000": "leaves compressed frames in the order of the file",
        "enhanced, in-stack numbers against positions": "sorts by the numbers",
        "with a SEG": "converts the SEG, too",
        "with a dose screenshot, chosen by number": "converts the picture, too",
        **dict.fromkeys(BARE, "takes it for no DICOM"),
        **{f"deflated{kind}": "cannot inflate" for kind in ("", ", signed", ", 8 bits")},
        **{f"two series, chosen by {what}": "converts both" for what in ("UID", "number", "description")},
    },
}


def simpleitk(path, uid, folder):
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(path), uid, False, True)
    if len({pydicom.dcmread(name, specific_tags=["NumberOfFrames"]).get("NumberOfFrames", 1) for name in names}) == 1:
        reader.SetFileNames(names)
    image = reader.Execute() if len(names) > 1 else SimpleITK.ReadImage(names[0])
    array = SimpleITK.GetArrayFromImage(image).T
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return array.reshape(array.shape[:3]), LPS_RAS @ affine


def highdicom(path, uid, folder):
    highdicom = pytest.importorskip("highdicom")

    files = [pydicom.dcmread(file) for file in path.rglob("*") if file.is_file() and pydicom.misc.is_dicom(file)]
    images = [ds for ds in files if ds.get("SeriesInstanceUID") == uid and "Rows" in ds]
    if len(images) == 1:
        volume = highdicom.Image.from_dataset(images[0]).get_volume(apply_presentation_lut=False)
    else:
        volume = highdicom.get_volume_from_series(images, apply_presentation_lut=False)
    return volume.array, LPS_RAS @ volume.affine


def dcm2niix(path, uid, folder):
    if not shutil.which("dcm2niix"):
        pytest.skip("needs dcm2niix")
    folder.mkdir()
    done = subprocess.run(
        ["dcm2niix", "-b", "n", "-z", "n", "-f", "%p", "-o", folder, path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = folder.glob("*.nii")
    image = nib.load(file)
    return image.get_fdata(), image.affine


READERS = {"simpleitk": simpleitk, "highdicom": highdicom, "dcm2niix": dcm2niix}
MM = {"simpleitk": 1e-3, "highdicom": 1e-3, "dcm2niix": 2e-3}  # NIfTI's affine is float32


def agree(volume, array, affine, *, mm, atol=0.0):
    """Compare after turning the other's axes into ours; both affines are RAS."""
    orientation = nib.orientations.ornt_transform(*map(nib.io_orientation, (affine, volume.affine)))
    turned = nib.orientations.apply_orientation(array, orientation)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape)
    assert turned.shape == volume.shape
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (
        *np.subtract(volume.shape, 1),
        1,
    )
    assert np.linalg.norm(corners @ (volume.affine - affine).T, axis=1).max() <= mm
    np.testing.assert_allclose(volume.array[0], turned, rtol=1e-6, atol=atol + 1e-6 * np.abs(turned).max())


PAIRS = [
    (name, reader)
    for name, case in RIGHT.items()
    if not case.path.lower().endswith((".zip", "dicomdir")) and not case.may_refuse
    for reader in READERS
    if name not in CANNOT[reader]
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A case, its folder and the series as we read it, made once for all readers."""

    @functools.cache
    def build(name):
        case = RIGHT[name]
        path = case.build(tmp_path_factory.mktemp("case"))
        return case, path, read_dicom_series(path, series=case.series)

    return build


@pytest.mark.parametrize(("name", "reader"), PAIRS)
def test_cases(built, name, reader, tmp_path):
    case, path, series = built(name)
    array, affine = READERS[reader](path, series.sources[0].get("SeriesInstanceUID"), tmp_path / "out")
    agree(series.volume, array, affine, mm=MM[reader] + case.mm, atol=case.atol)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", REAL)
def test_real_series(shared_data, name, reader, tmp_path):
    path = shared_data / "dicom" / name
    series = read_dicom_series(path)
    agree(series.volume, *READERS[reader](path, series.sources[0].SeriesInstanceUID, tmp_path / "out"), mm=MM[reader])
