"""Check that the images of a grid belong together: one patient, one acquisition, distinct objects."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import AmbiguityError, InputError
from .discovery import DISTINCTIONS, MOMENTS
from .geometry import Slice, frame_value

ONE_PATIENT = ("PatientID", "PatientBirthDate", "Modality")
OVERLAP = 1.5  # slices thicker than this many steps come from several acquisitions
FEWEST = 4  # slices needed to see a pattern
MOST_PASSES = 4


def check_together(slices: Sequence[Slice]) -> None:
    """Check that slices share patient, acquisition and kind of values.

    Args:
        slices: in the order of their positions.

    Raises:
        AmbiguityError: several patients, modalities or acquisitions.
        InputError: one UID for several images, or a rescale stated by only some of them.
    """
    _check_one_patient(slices)
    _check_rescales(slices)
    uids = Counter(str(uid) for one in slices if (uid := one.instance.header.get("SOPInstanceUID")) and not one.frame)
    if uids and max(uids.values()) > 1:
        raise InputError(
            f"every image must have its own SOPInstanceUID, got {max(uids.values())} images with one, such as "
            f"{slices[0].name}; export the series again"
        )
    if len(slices) >= FEWEST:
        _check_interleaved(slices)
        _check_passes(slices)


def _check_one_patient(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for tag in ONE_PATIENT:
        for one in slices:
            here, there = (_identity(each, tag) for each in (one, first))
            if here != there:
                raise AmbiguityError(
                    f"all images of a series must have the same {tag}, got two in {first.name} and {one.name}; select "
                    "images of one patient and modality"
                )


def _identity(one: Slice, tag: str) -> str:
    """Return the value of a tag; without patient ID, a normalised name."""
    header = one.instance.header
    if tag == "PatientID" and not header.get(tag):
        return " ".join(str(header.get("PatientName") or "").replace("^", " ").casefold().split())
    return str(header.get(tag) or "").strip()


def _check_rescales(slices: Sequence[Slice]) -> None:
    for tag in ("RescaleSlope", "RescaleIntercept"):
        bare = [frame_value(one.instance.header, tag, one.frame) in (None, "") for one in slices]
        if any(bare) and not all(bare):
            raise InputError(
                f"all images of a series, or none, must state {tag}, got none in "
                f"{slices[bare.index(True)].name} beside one in {slices[bare.index(False)].name}; export it again"
            )


def _check_interleaved(slices: Sequence[Slice]) -> None:
    """Refuse interleaved acquisitions: values that repeat with every second, third, ... slice."""
    for tag in DISTINCTIONS:
        values = [str(frame_value(one.instance.header, tag, one.frame)) for one in slices]
        period = len(set(values))
        repeats = all(value == later for value, later in zip(values, values[period:], strict=False))
        if 1 < period <= len(values) // 2 and repeats and (tag != "ImageType" or _thick(slices)):
            raise AmbiguityError(
                f"a series must be one acquisition, got {period} alternating ones with different {tag}, as in "
                f"{slices[0].name} and {slices[1].name}; select the images of one"
            )


def _check_passes(slices: Sequence[Slice]) -> None:
    """Refuse overlapping acquisitions: slices much thicker than their step, made in several passes.

    One interleaved acquisition also has several passes, but its slices are not thicker than their step.
    """
    if not _thick(slices):
        return
    for tag in MOMENTS:
        order = _order(slices, tag)
        if order is None:
            continue
        for passes in range(2, MOST_PASSES + 1):
            for count in {len(order) // passes, -(-len(order) // passes)} - {0, 1}:
                if len({index % passes for index in order[:count]}) == 1:  # the first pass skipped all others
                    raise AmbiguityError(
                        f"a series must be one acquisition, got slices of {_thickness(slices):.2f} mm every "
                        f"{_step(slices):.2f} mm from {passes} passes ({tag}), as in {slices[0].name} "
                        f"and {slices[1].name}; select the images of one"
                    )


def _order(slices: Sequence[Slice], tag: str) -> list[int] | None:
    """Return slice indices sorted by a tag; None if values are missing or repeated."""
    texts = [str(frame_value(one.instance.header, tag, one.frame) or "") for one in slices]
    try:
        moments = [float(text.split("+")[0]) for text in texts]
    except ValueError:
        return None
    groups = Counter(moments)
    if len(groups) < 2 or (2 < len(groups) < len(moments)):
        return None
    return [int(index) for index in np.argsort(moments, kind="stable")]


def _thick(slices: Sequence[Slice]) -> bool:
    return _thickness(slices) > OVERLAP * _step(slices)


def _thickness(slices: Sequence[Slice]) -> float:
    """Return the slice thickness in mm; 0 if unknown."""
    try:
        return float(frame_value(slices[0].instance.header, "SliceThickness", slices[0].frame) or 0)
    except (TypeError, ValueError):
        return 0.0


def _step(slices: Sequence[Slice]) -> float:
    ends: NDArray[np.float64] = slices[-1].position - slices[0].position
    return float(np.linalg.norm(ends)) / (len(slices) - 1)
