"""Read and write 3D Slicer's segmentations (`.seg.nrrd`) with names, colours and terminology.

ITK writes and reads them, since its headers are UTF-8; slicerio (ASCII only) verifies what was written.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dicom.geometry import LPS_TO_RAS
from ..errors import AmbiguityError, InputError, OutputError
from ..files import complete_file
from ..labels import Code, Label, label_colour
from ..provenance import ReadBack
from ..volume import SAME_GRID_MM, Volume, label_array
from .itk import read_itk_image

SUFFIX = ".seg.nrrd"
CONTEXT = "Segmentation category and type - DICOM master list"  # Slicer's list of terms
ANATOMY_CONTEXT = "Anatomic codes - DICOM master list"  # required even without a region
MODIFIERS = "UNetPlusPlus.Modifiers"  # tag with all modifiers of a segment; Slicer's terminology has room for one
COMPRESSION_LEVEL = 6  # of gzip; 9 is several times slower and saves almost nothing on label maps


def write_seg_nrrd(labels: Volume, path: Path, *, structures: Sequence[Label]) -> ReadBack:
    """Write a label map as a segmentation, and verify it by reading it back.

    Args:
        labels: `(1, X, Y, Z)` uint8, on any grid.
        path: `.seg.nrrd`; written atomically.
        structures: meaning of the values; structures without voxels are written too.

    Raises:
        OutputError: not writable, several channels, values without a structure, or a difference when read back.
    """
    import SimpleITK

    array = label_array(labels, error=OutputError)
    known = [label.index for label in structures]
    if unknown := sorted(set(np.unique(array).tolist()) - {0, *known}):
        raise OutputError(f"every value of a label map must have a structure, got {unknown} besides {known}")
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    affine = LPS_TO_RAS @ labels.affine
    image.SetSpacing(labels.spacing)
    image.SetDirection((affine[:3, :3] / labels.spacing).ravel())
    image.SetOrigin(affine[:3, 3])
    for key, value in _header(structures, labels.shape).items():
        image.SetMetaData(key, value)
    with complete_file(path) as temporary:
        try:
            SimpleITK.WriteImage(image, str(temporary), useCompression=True, compressionLevel=COMPRESSION_LEVEL)
        except RuntimeError as error:
            raise OutputError(f"{path} must be writable, got {str(error).splitlines()[-1].strip()}") from error
        return _read_back(labels, temporary, structures)


def _header(structures: Sequence[Label], shape: tuple[int, int, int]) -> dict[str, str]:
    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for number, label in enumerate(structures):
        segment = {
            "ID": f"Segment_{label.index}",
            "Name": label.name,
            "Color": " ".join(f"{value / 255:.6f}" for value in label_colour(label)),
            "LabelValue": str(label.index),
            "Layer": "0",
            "Extent": " ".join(f"0 {size - 1}" for size in shape),
            "Tags": _tags(label),
        }
        header.update({f"Segment{number}_{key}": value for key, value in segment.items()})
    return header


def _tags(label: Label) -> str:
    codes = (label.category, label.type, next(iter(label.modifiers), None))
    if not any(codes):
        return "|"
    for text in (
        text for code in (*codes, *label.modifiers) if code for text in (code.scheme, code.value, code.meaning)
    ):
        if set(text) & set("~^|\n"):
            raise OutputError(f"codes must not contain Slicer's separators ~, ^ and |, got {text!r}")
    more = f"{MODIFIERS}:{_terms(label.modifiers)}|" if len(label.modifiers) > 1 else ""
    return f"TerminologyEntry:{CONTEXT}~{_terms(codes)}~{ANATOMY_CONTEXT}~^^~^^|{more}"


def _terms(codes: Sequence[Code | None]) -> str:
    return "~".join(f"{code.scheme}^{code.value}^{code.meaning}" if code else "^^" for code in codes)


def _read_back(labels: Volume, path: Path, structures: Sequence[Label]) -> ReadBack:
    """Compare voxels, positions and values read by slicerio, and meanings read by ITK."""
    try:
        import nrrd
        import slicerio
    except ImportError as error:
        raise OutputError(".seg.nrrd needs slicerio to be checked; pip install 'unetpp_monai[dicom]'") from error
    try:
        content = slicerio.read_segmentation(str(path))
        names = read_seg_nrrd(path)[1]
    except (nrrd.NRRDError, InputError) as error:
        raise OutputError(f"{path.name} must be readable after writing, got: {error}") from error
    values = [segment["labelValue"] for segment in content["segments"]]
    if content["voxels"].shape != labels.shape or values != [label.index for label in structures]:
        raise OutputError(
            f"{path.name} must hold {labels.shape} voxels and the values {[label.index for label in structures]}, got "
            f"{content['voxels'].shape} and {values} when read back"
        )
    distance = labels.corner_distance(LPS_TO_RAS @ content["ijkToLPS"])
    different = int(np.count_nonzero(content["voxels"] != labels.array[0]))
    if different or distance > SAME_GRID_MM or [_key(label) for label in names] != [_key(one) for one in structures]:
        raise OutputError(
            f"{path.name} must hold the label map, got {different} other voxels, a shift of {distance:.3g} mm and the "
            f"structures {[_key(label) for label in names]} when read back"
        )
    return ReadBack(f"slicerio {slicerio.__version__}", int(np.count_nonzero(labels.array)), different, distance)


def _key(label: Label) -> tuple[Any, ...]:
    return label.index, label.name, label.category, label.type, label.modifiers, label_colour(label)


def read_seg_nrrd(path: Path) -> tuple[Volume, tuple[Label, ...]]:
    """Read a segmentation on its own grid: Slicer crops to the labels when it saves.

    Returns:
        Label map `(1, X, Y, Z)` uint8, mm, RAS; and its structures. Values are those of the file, or 1, 2, 3, ... in
        the order of the segments if the file repeats values (on layers) or exceeds 255.

    Raises:
        InputError: unreadable, no or more than 255 segments, or values without a segment.
        AmbiguityError: overlapping segments, which do not fit into one label map.
    """
    image = read_itk_image(path)
    layers = image.array
    segments = _segments(image.text)
    try:
        structures = _structures(segments)
        array = _merge(layers, _places(segments, len(layers)), structures)
    except AmbiguityError as error:
        raise AmbiguityError(f"{error} in {path}; export them one by one") from error
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} must describe its segments as Slicer does, got {error}; save it again") from error
    if (lost := int(np.count_nonzero(layers)) - int(np.count_nonzero(array))) > 0:
        raise InputError(f"every value of a segmentation must belong to a segment, got {lost} voxels more in {path}")
    return Volume(array[None], image.affine), structures


def _segments(header: Mapping[str, str]) -> list[Mapping[str, str]]:
    segments: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in header.items():
        if match := re.fullmatch(r"Segment(\d+)_(.+)", key):
            segments[int(match[1])][match[2]] = value
    return [segments[number] for number in sorted(segments)]


def _structures(segments: Sequence[Mapping[str, str]]) -> tuple[Label, ...]:
    values = [int(segment.get("LabelValue", 1)) for segment in segments]
    if not 1 <= len(values) <= 255:
        raise ValueError(f"{len(values)} segments, but a label map takes 1 to 255")
    if len(set(values)) < len(values) or not all(1 <= value <= 255 for value in values):
        values = list(range(1, len(segments) + 1))
    return tuple(_label(segment, value) for segment, value in zip(segments, values, strict=True))


def _places(segments: Sequence[Mapping[str, str]], layers: int) -> list[tuple[int, int]]:
    """Return the layer and value of each segment; old versions of Slicer store one unnamed layer per segment."""
    old = len(segments) == layers and not any("Layer" in segment for segment in segments)
    return [
        (int(segment.get("Layer", number if old else 0)), int(segment.get("LabelValue", 1)))
        for number, segment in enumerate(segments)
    ]


def _label(segment: Mapping[str, str], value: int) -> Label:
    tags = dict(tag.split(":", 1) for tag in segment.get("Tags", "").split("|") if ":" in tag)
    terms = tags.get("TerminologyEntry", "").split("~")[1:4]
    category, kind, first = (_code(term) for term in (*terms, *("^^",) * (3 - len(terms))))
    stated = tuple(code for term in tags.get(MODIFIERS, "^^").split("~") if (code := _code(term)))
    modifiers = stated if stated[:1] == (first,) else (first,) if first else ()  # a person may have changed the term
    colour = None
    if "Color" in segment:
        red, green, blue = (round(255 * float(part)) for part in segment["Color"].split())
        colour = (red, green, blue)
    return Label(value, segment.get("Name") or segment.get("ID", ""), category, kind, modifiers, colour)


def _code(term: str) -> Code | None:
    scheme, value, meaning = term.split("^")
    return Code(value, scheme, meaning) if value else None


def _merge(
    layers: NDArray[np.generic], places: Sequence[tuple[int, int]], structures: Sequence[Label]
) -> NDArray[np.uint8]:
    """Merge segments, stored as values on layers `(L, X, Y, Z)`, into one label map."""
    array = np.zeros_like(layers[0], dtype=np.uint8)
    for number, layer in enumerate(layers):
        here = [(value, label) for (at, value), label in zip(places, structures, strict=True) if at == number]
        if layer.dtype.kind not in "iu" or layer.min() < 0:
            raise ValueError(f"values of type {layer.dtype}, the lowest {layer.min()}")
        table = np.zeros(int(layer.max()) + 1, dtype=np.uint8)  # value -> label index
        for value, label in here:
            table[value : value + 1] = label.index
        found = table[layer]
        if (number and ((array > 0) & (found > 0)).any()) or len({value for value, _ in here}) < len(here):
            names = ", ".join(repr(label.name) for _, label in here)
            raise AmbiguityError(f"segments must not overlap to be a label map, got {names} over others")
        array = np.maximum(array, found)
    return array
