"""Write `<case>.json`: input, everything that determined the voxels, and what was found and written.

`unetpp_monai/report.schema.json` describes every key. Numbers are rounded here to what they mean, and nowhere else.
"""

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .._version import __version__
from ..io import SourceImage
from ..located import Located
from ..provenance import Algorithm
from ..segmentation import Segmentation

SCHEMA = 1  # version of `report.schema.json`, raised whenever a key goes or changes its meaning
PACKAGES = ("torch", "monai", "numpy", "nibabel", "pydicom", "highdicom")  # whose versions decide a result
ML_DECIMALS = 3  # a voxel of 1 mm³; more where one voxel is smaller, so that every voxel shows
SCORE_DECIMALS = SECOND_DECIMALS = 4
PLACE_DECIMALS = 1  # of where a structure was located, on a grid of some mm
MM_DECIMALS = 6  # of a distance between two grids


def case_report(
    image: SourceImage,
    result: Segmentation,
    *,
    case_input: Mapping[str, str],
    request: Mapping[str, Any],
    outputs: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """State a result in JSON's types.

    Args:
        image: what was segmented.
        result: of the segmenter.
        case_input: of `CaseInput.stated`.
        request: of `settings_of`.
        outputs: of `write_outputs`.
        seconds: step -> wall time.
    """
    return {
        "schema": SCHEMA,
        **case_input,
        **_source(image, known="input" in case_input),
        "request": dict(request),
        "outputs": {kind: _output(written) for kind, written in outputs.items()},
        "voxels": result.voxels,
        "ml": {name: _round_ml(ml, result.labels.voxel_ml) for name, ml in result.ml.items()},
        "depth": result.depth,
        "exit_thresholds": list(result.exit_thresholds),
        "mirror_axes": list(result.mirror_axes),
        "windows": {str(depth): count for depth, count in result.windows.items()},
        "scores": _rounded(result.scores, SCORE_DECIMALS),
        "score": None if result.score is None else round(result.score, SCORE_DECIMALS),
        "measure": result.measure,
        "measures": _rounded(result.measures, SCORE_DECIMALS),
        "located": None if result.located is None else _located(result.located),
        "plausibility": None if result.plausibility is None else list(result.plausibility),
        "review": result.review,
        "device": result.device,
        "runtime": result.runtime,
        "precision": result.precision,
        "bundle": result.bundle,
        "version": result.version,
        "weights_sha256": result.weights_sha256,
        "config_sha256": result.config_sha256,
        **({"prompts": [asdict(prompted) for prompted in result.prompts]} if result.prompts else {}),
        "software": {"unetpp_monai": __version__, "python": platform.python_version(), **versions()},
        "seconds": _rounded(seconds, SECOND_DECIMALS),
    }


def algorithm_of(result: Segmentation) -> Algorithm:
    """Name what made a result as DICOM states it: one text per parameter, without comma or equals sign."""
    parameters = {
        "depth": str(result.depth),
        "exit_thresholds": " ".join(map(str, result.exit_thresholds)) or "none",
        "mirror_axes": " ".join(map(str, result.mirror_axes)) or "none",
        "runtime": result.runtime,
        "precision": result.precision,
        "weights_sha256": result.weights_sha256,
        "config_sha256": result.config_sha256,
        "unetpp_monai": __version__,
    }
    if not result.prompts:
        return Algorithm(result.bundle, result.version, parameters)
    parameters["prompts"] = "; ".join(f"{one.positions} {one.kind} {one.sha256}" for one in result.prompts)
    return Algorithm(result.bundle, result.version, parameters, "SEMIAUTOMATIC")


def _source(image: SourceImage, *, known: bool) -> dict[str, Any]:
    """Say which series it was, and what was done beyond reading; of a pseudonymised one only the latter."""
    if not known:
        return {"remarks": list(image.remarks)}
    if not image.instances:
        return {}
    series, *others = (str(header.SeriesInstanceUID) for header in image.series)
    further = {"other_channels": others} if others else {}
    return {"series": series, **further, "remarks": [*image.remarks, *image.warnings]}


def _output(written: Mapping[str, Any]) -> dict[str, Any]:
    proof = written["read_back"]
    if proof is not None and "largest_mm" in proof:
        proof = {**proof, "largest_mm": round(proof["largest_mm"], MM_DECIMALS)}
    return {**written, "read_back": proof}


def _located(located: Located) -> dict[str, Any]:
    """State where each structure was found, and how sure."""
    structures = {
        found.name: {
            "centre_mm": [round(length, PLACE_DECIMALS) for length in found.centre],
            "size_mm": [round(length, PLACE_DECIMALS) for length in found.size],
            "ml": round(found.ml, ML_DECIMALS),
            "doubt": round(found.uncertainty, SCORE_DECIMALS),
            "cut": found.cut,
        }
        for found in located.found
    }
    return {"structures": structures, "brain_ml": round(located.brain_ml, 1)}


def _rounded(values: Mapping[str, float], decimals: int) -> dict[str, float]:
    return {name: round(value, decimals) for name, value in values.items()}


def _round_ml(ml: float, voxel_ml: float) -> float:
    """Round a volume to the decimals at which one voxel shows, at least `ML_DECIMALS`."""
    needed = math.ceil(round(-math.log10(voxel_ml), 6))  # rounded: 0.000999999... is a voxel of 1 mm³
    return round(ml, max(ML_DECIMALS, needed))


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # not needed here, or importable without being installed, as in a packed bundle
            found[package] = "unknown"
    return found
