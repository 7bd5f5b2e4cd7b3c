"""Find the files of multi-channel cases and read them as one image."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ..errors import GeometryError, InputError
from ..volume import Volume
from .itk import SUFFIXES as ITK_SUFFIXES
from .itk import itk_components
from .nifti import is_nifti
from .picture import picture_bands
from .reader import SUFFIXES, ImageFormat, SourceImage, image_format, is_picture, read_image
from .series_channels import GRID_TOLERANCE, headers_of, read_series_channels

SeriesChoice = str | Sequence[str] | None  # UID, number or description, or one per channel; None: the only series


def channel_files(path: Path, suffixes: Sequence[str]) -> tuple[Path, ...]:
    """List the files of a case, one per channel.

    Args:
        path: file of the first channel, such as `case_0000.nii.gz`; a single file if its name has no such ending, or if
            it has several channels itself.
        suffixes: file name ending of each channel, such as ("_0000", "_0001"); empty: one file per case.

    Returns:
        One file per channel.

    Raises:
        InputError: a channel's file is missing, or `path` is not the first channel.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     files = [Path(folder, f"case{suffix}.nii.gz") for suffix in ("_0000", "_0001")]
        ...     created = [file.touch() for file in files]
        ...     [file.name for file in channel_files(files[0], ("_0000", "_0001"))]
        ['case_0000.nii.gz', 'case_0001.nii.gz']
    """
    stem, ending = _split(path.name)
    channel = _channel_of(stem, suffixes)
    if channel is None or (len(suffixes) > 1 and _has_channels(path)):
        return (path,)
    base = stem.removesuffix(suffixes[channel])
    files = tuple(path.with_name(f"{base}{suffix}{ending}") for suffix in suffixes)
    if missing := [file.name for file in files if not file.exists()]:
        raise InputError(f"a case must have a file for each of {len(files)} channels, missing: {', '.join(missing)}")
    if channel:
        raise InputError(f"a case is named by the file of its first channel, got {path}; name {files[0].name}")
    return files


def is_other_channel(path: Path, suffixes: Sequence[str]) -> bool:
    """Tell whether a file is a second or later channel, with the first one in the same folder; reads its header."""
    stem, ending = _split(path.name)
    channel = _channel_of(stem, suffixes)
    if not channel:
        return False
    first = path.with_name(f"{stem.removesuffix(suffixes[channel])}{suffixes[0]}{ending}")
    return first.exists() and not _has_channels(path)


def without_channel(name: str, suffixes: Sequence[str]) -> str:
    """Remove the ending of the first channel from a name."""
    return name.removesuffix(suffixes[0]) if suffixes and len(name) > len(suffixes[0]) else name


def read_case(
    path: str | Path,
    *,
    channels: Sequence[str] = (),
    series: SeriesChoice = None,
    in_channels: int | None = None,
    channel_names: Sequence[str] = (),
    kind: ImageFormat | None = None,
) -> SourceImage:
    """Read an image from one file or one per channel.

    Args:
        path: as for `read_image`.
        channels: see `channel_files`.
        series: UID, number or description of the DICOM series, or one per channel; None: the only one.
        in_channels: required number of channels in DICOM; None: as many as `channels`.
        channel_names: names for error messages; may be empty.
        kind: result of `image_format`, if known; None: detect it.

    Returns:
        The image with all its channels.

    Raises:
        InputError: as for `read_image`, or a channel is missing or has several channels.
        GeometryError: channels on different grids, or series with different frames of reference.

    Example:
        >>> read_case(Path(__file__).parents[1] / "sample" / "mni_head.nii.gz").volume.array.shape[0]
        1
    """
    path, names = Path(path), series_names(series)
    wanted = (len(channels) or None) if in_channels is None else in_channels
    kind = image_format(path) if kind is None else kind
    if kind == ImageFormat.DICOM and max(len(names), wanted or 1) > 1:
        return _read_series(path, names, in_channels=wanted, channel_names=channel_names)
    return read_channels(channel_files(path, channels), series=series, kind=kind)


def series_names(series: SeriesChoice) -> tuple[str, ...]:
    """List the chosen series.

    Args:
        series: one, several or None.

    Returns:
        Their names; empty: the only series.

    Example:
        >>> series_names("T1"), series_names(None)
        (('T1',), ())
    """
    return tuple(filter(None, (series,) if isinstance(series, str) or series is None else series))


def read_channels(
    files: Sequence[Path], *, series: SeriesChoice = None, kind: ImageFormat | None = None
) -> SourceImage:
    """Read files as channels of one image, in order; a single file may have several channels.

    Raises:
        InputError, GeometryError: as for `read_case`.
    """
    if len(set(files)) < len(files):
        raise InputError(
            f"channels of a case must be different files, got one of {[file.name for file in files]} twice"
        )
    (name, *more) = series_names(series) or (None,)
    if more:
        raise InputError(f"only DICOM has series to choose from, got {files[0]}")
    images = [read_image(file, series=name, kind=kind) for file in files]
    if len(images) == 1:
        return images[0]
    first = images[0].volume
    for image in images:
        if len(image.volume.array) != 1:
            raise InputError(f"each file must have 1 channel, got {len(image.volume.array)} in {image.path}")
        if first.grid_distance(image.volume) > GRID_TOLERANCE:
            raise GeometryError(
                f"channels of a case must be on one grid, got {image.volume.shape} in {image.path.name} and "
                f"{first.shape} in {images[0].path.name}, or another position; resample them to the first"
            )
    array = np.concatenate([image.volume.array for image in images])
    return replace(
        images[0],
        volume=Volume(array, first.affine),
        remarks=tuple(dict.fromkeys(remark for image in images for remark in image.remarks)),
        sha256={k: v for i in images for k, v in i.sha256.items()},
    )


def _split(name: str) -> tuple[str, str]:
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)], name[len(name) - len(suffix) :]


def _channel_of(stem: str, suffixes: Sequence[str]) -> int | None:
    found = (index for index, suffix in enumerate(suffixes) if stem.endswith(suffix) and len(stem) > len(suffix))
    return next(found, None)


def _has_channels(path: Path) -> bool:
    """Tell by its header whether a file has several channels, as RGB; False if it cannot be read."""
    try:
        if is_nifti(path):
            return bool(np.prod(nib.load(path).shape[3:]) > 1)
        if is_picture(path):
            return picture_bands(path) > 1
        return path.name.lower().endswith(ITK_SUFFIXES) and itk_components(path) > 1
    except Exception:  # noqa: BLE001 - whatever is wrong, reading it says so
        return False


def _read_series(
    path: Path, names: Sequence[str], *, in_channels: int | None, channel_names: Sequence[str]
) -> SourceImage:
    """Read an image; its instances are those of the first series."""
    found = read_series_channels(path, names, in_channels=in_channels, channel_names=channel_names)
    return SourceImage(
        path,
        ImageFormat.DICOM,
        found.volume,
        found.series[0].sources,
        found.remarks,
        tuple(text for one in found.series for text in one.warnings),
        {file: digest for one in found.series for file, digest in one.sha256.items()},
        headers_of(found.series),
    )
