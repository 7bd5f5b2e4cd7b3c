"""Projects of InVesalius, of which a benchmark takes a CT of a head."""

import io
import plistlib
import tarfile

import numpy as np

from benchmarks.locator import packaged


def test_an_image_of_invesalius_is_read(tmp_path):
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # slices, rows, columns
    stated = {"matrix": {"filename": "matrix.dat", "dtype": "int16", "shape": [2, 3, 4]}, "spacing": [0.5, 0.5, 2.0]}
    with tarfile.open(tmp_path / "case.inv3", "w:gz") as archive:
        for name, content in (("main.plist", plistlib.dumps(stated)), ("matrix.dat", image.tobytes())):
            member = tarfile.TarInfo(f"project/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    volume = packaged.read_inv3(tmp_path / "case.inv3")
    assert volume.axcodes == ("L", "A", "S") and volume.spacing == (0.5, 0.5, 2.0)
    np.testing.assert_array_equal(volume.array[0, :, 1, 1], image[1, 1])
