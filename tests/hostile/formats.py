"""What is damaged, and how: the formats, their sound files, and the mutants that are made of them."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hostile import seeds
from hostile.binary_fields import nifti_fields, png_chunks, tiff_tags
from hostile.bytewise import PLAIN, Mutator, splice, within_gzip
from hostile.dicom_elements import dicom_elements
from hostile.tensors import no_pickle, weights
from hostile.text_fields import OUTSIDE, json_values, metaimage_header, nrrd_header

AWARE = 0.55  # share of the mutants that are made with knowledge of their format
CONFIGS = ("configs/inference.json", "configs/metadata.json")
WORDY = ("ascii",)  # variants whose last number may lose a digit, which nothing can notice
TARGETS = ("image.*", "labels.*", "series.zip", "disc/DICOMDIR")  # what is read; else the folder is


@dataclass(frozen=True)
class Format:
    """One row of the table."""

    make: Callable[[Path], None]  # writes sound variants, each into a folder of its own
    kind: str  # what reads it: image, labels or bundle
    aware: tuple[Mutator, ...]  # mutators that know the format; none: only the plain ones
    parts: tuple[str, ...] = ("*",)  # patterns of the files of a variant that are damaged


FORMATS = {
    "nifti": Format(seeds.make_nifti, "image", (nifti_fields,)),
    "nifti_gz": Format(seeds.make_nifti_gz, "image", (within_gzip(nifti_fields),)),
    "dicom": Format(seeds.make_dicom, "image", (dicom_elements,), ("*.dcm", "*.zip", "disc/DICOMDIR", "disc/*/*")),
    "nrrd": Format(seeds.make_nrrd, "image", (nrrd_header,), ("*.nrrd",)),
    "metaimage": Format(seeds.make_metaimage, "image", (metaimage_header,), ("*.mh?", "pixels.raw")),
    "png": Format(seeds.make_png, "image", (png_chunks,)),
    "tiff": Format(seeds.make_tiff, "image", (tiff_tags,)),
    "seg": Format(seeds.make_seg, "labels", (dicom_elements,)),
    "rtstruct": Format(seeds.make_rtstruct, "labels", (dicom_elements,)),
    "seg.nrrd": Format(seeds.make_segnrrd, "labels", (nrrd_header,)),
    "configs": Format(seeds.make_bundle, "bundle", (json_values,), CONFIGS),
    "weights": Format(seeds.make_bundle, "bundle", (weights, weights, no_pickle), ("models/model.pt",)),
}


@dataclass(frozen=True)
class Mutant:
    """A damaged input."""

    path: Path  # what the product is given
    variant: str  # which sound one it was
    how: str  # what was done to which file
    is_cut: bool  # whether a file lost its end and nothing else was done
    size: int  # bytes of the damaged file


def variants(folder: Path) -> list[Path]:
    """Sound variants of a format, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def target(folder: Path) -> Path:
    """Path of an input: the file that stands for it, or its folder."""
    return next((path for pattern in TARGETS for path in folder.glob(pattern)), folder)


def make_mutant(name: str, number: int, sound: Path, folder: Path) -> Mutant:
    """Make the mutant of a format that has this number; the same number gives the same bytes.

    Args:
        name: of `FORMATS`.
        number: of the mutant.
        sound: folder of the format's variants.
        folder: where to put it; made here.
    """
    rng, form = Random(f"{name} {number}"), FORMATS[name]
    variant = rng.choice(variants(sound))
    inside = folder / "input"
    shutil.copytree(variant, inside)
    if (inside / OUTSIDE).exists():
        (inside / OUTSIDE).rename(folder / OUTSIDE)
    files = sorted(path for part in form.parts for path in inside.glob(part) if path.is_file())
    path = rng.choice(files)
    data = path.read_bytes()
    mutator = _choose(form, rng, path)
    other = rng.choice(sorted(file for part in form.parts for file in sound.glob(f"*/{part}") if file.is_file()))
    changed, how = splice(data, rng, other.read_bytes()) if mutator is splice else mutator(data, rng)
    path.write_bytes(changed)
    if len(files) > 2 and rng.random() < 0.05:  # of a series: a file is lost, or there twice
        extra = rng.choice(files[1:])
        how += _lose_or_copy(extra, rng)
    is_cut = re.match(r"(within gzip: )?cut to", how) is not None and ";" not in how and variant.name not in WORDY
    return Mutant(target(inside), variant.name, f"{path.relative_to(inside)}: {how}", is_cut, len(changed))


def _choose(form: Format, rng: Random, path: Path) -> Mutator:
    knows = path.suffix in (".raw", ".zip", "") and "image.nii" not in path.name
    if form.aware and not knows and rng.random() < AWARE:
        return rng.choice(form.aware)
    plain = (*PLAIN, *PLAIN, splice)
    mutator = rng.choice(plain)
    return within_gzip(mutator) if path.suffix == ".gz" and mutator is not splice and rng.random() < 0.4 else mutator


def _lose_or_copy(path: Path, rng: Random) -> str:
    if rng.random() < 0.5:
        path.unlink()
        return f"; {path.name} lost"
    shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    return f"; {path.name} twice"
