"""Run a packed zip in a new process, as its user will, and compare the voxels."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..errors import BundleError
from ..io import channel_files, read_volume
from ..segmenter import Segmenter
from .held_out import HeldOut, Reading
from .outputs import FORMATS, format_for

TIMEOUT = 1800  # seconds
SAID = 300  # characters of the process's last words
HIDDEN = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME")  # of the environment: what would put another package before


def try_zip(packed: Bundle, archive: Path, *, case: HeldOut, reading: Reading) -> None:
    """Unpack a zip and let its own copy of the package segment a case.

    Args:
        packed: the bundle that the zip holds.
        archive: the zip.
        case: to segment.
        reading: of the case.

    Raises:
        BundleError: it fails, or gives other voxels than the bundle gives here.
    """
    image, _ = reading.read(case)
    expected = Segmenter(packed, device="cpu", runtime="eager")(image).labels
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder / "unpacked")
        (root,) = (folder / "unpacked").iterdir()
        source = _staged(case, packed.channel_suffixes, folder)
        stated = {"bundle": str(root), "runtime": "eager", "device": "cpu", "format": "nifti"}
        stated |= {"series": reading.series} if reading.series else {}
        options = [part for name, value in stated.items() for part in (f"--{name}", value)]
        command = [sys.executable, "-W", "ignore", "-m", "unetpp_monai", "segment", str(source.resolve())]
        done = _run([*command, "-o", str(folder / "out"), *options], root)
        ending = FORMATS[format_for("nifti", source)][0]
        written = [path for path in (folder / "out").glob("*") if path.name.endswith(ending)]
        if done.returncode or len(written) != 1:
            said = " ".join((done.stderr or done.stdout).split())[-SAID:]
            raise BundleError(f"a packed zip must segment a case, got exit code {done.returncode}: {said}")
        found = read_volume(written[0], labels=True)
    if not np.array_equal(found.array, expected.array):
        count = int((found.array != expected.array).sum()) if found.shape == expected.shape else found.array.size
        raise BundleError(f"a packed zip must give the same voxels as here, got {count} others")


def _run(command: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in HIDDEN}
    try:
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"a packed zip must segment a case within {TIMEOUT} s, got no end; pack again on a free machine"
        ) from error


def _staged(case: HeldOut, suffixes: tuple[str, ...], folder: Path) -> Path:
    """The path that `segment` takes for a case; its files with the names of channels, if they have others."""
    first = case.images[0]
    if channel_files(first, suffixes) == case.images:
        return first
    if len(suffixes) != len(case.images):
        raise BundleError(
            f"a case of {len(case.images)} files needs as many channel_suffixes, got {list(suffixes)}; state them"
        )
    staged = folder / "case"
    staged.mkdir()
    for path, suffix in zip(case.images, suffixes, strict=True):
        ending = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".gz") else path.suffix
        shutil.copyfile(path, staged / f"case{suffix}{ending}")
    return next(iter(sorted(staged.iterdir())))
