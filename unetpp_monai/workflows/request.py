"""Options for segmenting a case, and how reports state them."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..depth import DepthLike
from ..io import SeriesChoice, series_names
from ..segmenter import Segmenter
from .outputs import PLAIN, Naming


@dataclass(frozen=True)
class Request:
    """Options for segmenting a case."""

    formats: tuple[str, ...] = ("nifti",)  # of io.outputs.FORMATS
    series: SeriesChoice = None  # which DICOM series, or one for each channel; None: the only one
    depth: DepthLike = None  # as `Segmenter` takes it
    mirror_axes: tuple[int, ...] | None = None  # as `Segmenter` takes them; None: what the bundle says
    uncertainty: bool = False  # also write the map
    encoding: str = "binary"  # of DICOM SEG: binary or labelmap
    key: bytes | None = None  # pseudonymise with it
    retain_uids: bool = False  # when pseudonymising
    any_modality: bool = False  # also take a series of another modality than the bundle's
    overwrite: bool = False  # replace results that exist
    name: str | None = None  # of the results; None: that of the case
    naming: Naming = PLAIN  # what files are called, after that


def settings_of(segmenter: Segmenter, request: Request, formats: tuple[str, ...]) -> dict[str, Any]:
    """State all that decides a case's results, besides the case, by the keys of its report.

    Args:
        segmenter: what segments.
        request: what is wanted.
        formats: those that are written.

    Raises:
        InputError: the network has no such depth or axis.
    """
    return {
        **segmenter.settings(depth=request.depth, mirror_axes=request.mirror_axes),
        "request": {
            "formats": list(formats),
            "series": _stated([_said(name, request.key) for name in series_names(request.series)]),
            "encoding": request.encoding,
            "uncertainty": request.uncertainty,
            "retain_uids": request.retain_uids,
        },
    }


def _said(series: str, key: bytes | None) -> str:
    """A series as reports name it: with a key, so that the patient cannot be found by a UID without it."""
    return series if key is None else hmac.new(key, series.encode(), "sha256").hexdigest()


def _stated(series: Sequence[str]) -> str | list[str] | None:
    return list(series) if len(series) > 1 else next(iter(series), None)
