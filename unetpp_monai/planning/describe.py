"""Describe a planned task: metadata (without paths and case names), fingerprint and cases."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..plausibility import ABSOLUTE, ranges_of
from .checking import Checked
from .dataset import Case
from .decisions import Decided
from .examine import Channel, Facts
from .intensity import UNKNOWN

VERSION = "0.1.0"
SHOWN = (0.5, 50.0, 99.5)  # reported percentiles of the foreground


def label_names(checked: Checked) -> dict[int, str]:
    """Return names by index, background first; unnamed labels are named after their value."""
    known = checked.dataset.labels
    names = [known.get(value, f"label {value}") for value in checked.values[1:]]
    return dict(enumerate(["background", *names]))


def metadata(checked: Checked, decided: Decided, name: str) -> dict[str, Any]:
    """Build `metadata.json`.

    Args:
        checked: the data set.
        decided: the plan.
        name: of the task, if the data set has none.
    """
    labels = label_names(checked)
    picture = checked.cases[0][1].picture
    channels = checked.dataset.channels or tuple(f"channel {number}" for number in range(len(decided.kinds)))
    modality = ", ".join(dict.fromkeys(kind.modality for kind in decided.kinds))
    structures = ", ".join(list(labels.values())[1:])
    listed = ", ".join(f"{index} {label}" for index, label in labels.items())
    known = "" if UNKNOWN in modality else f" in {modality}"
    return {
        "version": VERSION,
        "changelog": {VERSION: "planned"},
        "name": f"UNet++ {checked.dataset.name or name} segmentation",
        "task": f"Segmentation of {structures}{known}",
        "data_source": "not stated",
        "data_type": "picture" if picture else "nibabel",
        "image_classes": ", ".join(channels),
        "label_classes": listed,
        "pred_classes": listed,
        "intended_use": "Research. Not a medical device, not for diagnosis.",
        "plausible": _plausible(checked, decided),
        "network_data_format": _format(decided, channels, labels, modality),
    }


def _plausible(checked: Checked, decided: Decided) -> dict[str, Any]:
    absolute = {kind.modality for kind in decided.kinds} == {ABSOLUTE}
    measured = []
    for _, facts in checked.cases:
        found = facts.measures[absolute]
        voxels = {
            index: facts.labels[value].voxels if value in facts.labels else 0
            for index, value in enumerate(checked.values)
            if index
        }
        measured.append(found.with_labels(voxels, int(np.prod(facts.shape)), float(np.prod(facts.spacing)) / 1000))
    dims = decided.values["spatial_dims"]
    return ranges_of(measured, range(1, len(checked.values)), absolute=absolute, spatial_dims=dims).to_json()


def _format(decided: Decided, channels: tuple[str, ...], labels: Mapping[int, str], modality: str) -> dict[str, Any]:
    shape = [f"{step}*n" for step in decided.divisors]
    patch = {"dtype": "float32", "value_range": [], "is_patch_data": True}
    return {
        "inputs": {
            "image": {
                **{"type": "image", "format": "magnitude", "modality": modality, "num_channels": len(channels)},
                **{"spatial_shape": shape, **patch},
                "channel_def": {str(number): channel for number, channel in enumerate(channels)},
            }
        },
        "outputs": {
            "pred": {
                **{"type": "image", "format": "labels", "modality": "n/a", "num_channels": len(labels)},
                **{"spatial_shape": shape, **patch},
                "channel_def": {str(index): label for index, label in labels.items()},
            }
        },
        "post_processed_outputs": {
            "pred": {
                **{"type": "image", "format": "segmentation", "modality": "n/a", "num_channels": 1},
                **{"spatial_shape": ["*"] * len(shape), "dtype": "uint8", "value_range": [0, len(labels) - 1]},
                **{"is_patch_data": False, "channel_def": {"0": "label index"}},
            }
        },
    }


def cases_list(checked: Checked, decided: Decided) -> list[dict[str, Any]]:
    """Build `cases.json`: name, image (or images, one per channel), label, group, fold, sha256."""
    root = checked.dataset.root
    found = []
    for case, facts in checked.cases:
        images = [_relative(path, root) for path in case.images]
        found.append(
            {
                "name": case.name,
                "image": images[0] if len(images) == 1 else images,
                "label": _relative(case.label, root),
                "group": case.group,
                "fold": decided.folds[case.name],
                "sha256": dict(facts.sha256),
            }
        )
    return found


def _relative(path: Path, root: Path) -> str:
    """Return a path by which the resolved root leads to the same file, also through links and `..`."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return os.path.relpath(path.parent.resolve() / path.name, root.resolve()).replace(os.sep, "/")


def fingerprint(checked: Checked) -> dict[str, Any]:
    """Return the measurements of each case; lengths in mm, axes right, anterior, superior."""
    return {case.name: _of_case(case, facts) for case, facts in checked.cases}


def _of_case(case: Case, facts: Facts) -> dict[str, Any]:
    labels = {
        str(value): {
            "voxels": shape.voxels,
            "extent": _rounded(shape.extent),
            "components": len(shape.components),
            "largest": _rounded(shape.components[:1])[0],
            "smallest": _rounded(shape.components[-1:])[0],
        }
        for value, shape in facts.labels.items()
    }
    return {
        "group": case.group,
        "shape": list(facts.shape),
        "spacing": _rounded(facts.spacing),
        "not zero": list(facts.inner),
        "voxels sha256": facts.voxels,
        "channels": [_of_channel(channel) for channel in facts.channels],
        "labels": labels,
    }


def _of_channel(channel: Channel) -> dict[str, Any]:
    stated: dict[str, Any] = {
        **{"lowest": channel.lowest, "highest": channel.highest},
        **{"whole numbers": channel.whole, "zeros": round(channel.zeros, 4)},
    }
    if channel.foreground.size:
        sample = channel.foreground.astype(np.float64)
        values = dict(zip(map(str, SHOWN), np.percentile(sample, SHOWN).tolist(), strict=True))
        values |= {"mean": float(sample.mean()), "sd": float(sample.std())}
        stated["foreground"] = {key: _rounded([value])[0] for key, value in values.items()}
    return stated


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
