"""Compare each case with its cohort: robust deviations of volumes, left and right, and scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..labels import Label
from ..workflows.calibrate import Quota
from .ledger import FAILED
from .table import Record

FEWEST = 5  # cases that deviations need
FAR = 3.5  # robust deviations from which a case is flagged (Iglewicz and Hoaglin 1993)
TO_SIGMA = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
SIDES = {"7771000": "left", "24028007": "right"}  # SNOMED CT
LARGEST = 99.9  # larger deviations are stated as this, as where nearly all values are equal
SENTENCE = 3.0  # weight of one implausible fact in the order of suspicion, deviations


@dataclass(frozen=True)
class Standing:
    """How a case compares with its cohort."""

    deviations: Mapping[str, float] = field(default_factory=dict)  # label or other measure -> robust z
    asymmetry: Mapping[str, float] = field(default_factory=dict)  # structure -> (left - right) / mean of both
    reasons: tuple[str, ...] = ()  # why a person should look at it
    suspicion: float = 0.0  # highest first is the order of review


def robust_z(values: Sequence[float | None]) -> list[float | None]:
    """Return deviations from the median, in robust standard deviations (from the MAD).

    Args:
        values: of each case; None: unknown.

    Returns:
        One per case; None where the value is unknown, or all None for fewer than `FEWEST` cases.

    Example:
        >>> robust_z([1.0, 2.0, 3.0, 4.0, 50.0])[-1]
        31.7
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if len(known) < FEWEST:
        return [None] * len(values)
    middle = float(np.median(known))
    spread = TO_SIGMA * float(np.median(np.abs(known - middle)))
    return [None if value is None else _deviation(value - middle, spread) for value in values]


def _deviation(distance: float, spread: float) -> float:
    if distance == 0:
        return 0.0
    found = distance / spread if spread else np.copysign(np.inf, distance)
    return round(float(np.clip(found, -LARGEST, LARGEST)), 2)


def side_pairs(labels: Sequence[Label]) -> dict[str, tuple[str, str]]:
    """Find structures with two sides: name without its side -> left label, right label."""
    found: dict[str, dict[str, str]] = {}
    for label in labels:
        coded = [SIDES[code.value] for code in label.modifiers if code.value in SIDES]
        words = re.split(r"[\s_-]+", label.name)
        side = next((side for side in (*coded, *map(str.lower, words)) if side in SIDES.values()), None)
        if side is not None:
            name = " ".join(word for word in words if word.lower() not in SIDES.values())
            found.setdefault(name, {})[side] = label.name
    return {name: (sides["left"], sides["right"]) for name, sides in found.items() if len(sides) == 2}


def standings(records: Sequence[Record], labels: Sequence[Label], *, quota: Quota | None = None) -> list[Standing]:
    """Compare every case with all that are done and not excluded.

    Args:
        records: of the cohort.
        labels: of the bundle.
        quota: threshold of the score for this site; None: the bundle's threshold.
    """
    counted = [bool(record.report) and not record.excluded for record in records]
    columns = {label.name: [record.values.get(label.name) for record in records] for label in labels}
    pairs = side_pairs(labels)
    sides = {name: [_asymmetry(record, *pair) for record in records] for name, pair in pairs.items()}
    measured = {
        **columns,
        **{f"asymmetry of {name}": values for name, values in sides.items()},
        **_proportions(columns),
        "score": [record.report.get("score") for record in records],
    }
    deviations = {
        name: robust_z([value if known else None for value, known in zip(values, counted, strict=True)])
        for name, values in measured.items()
    }
    found = []
    for place, record in enumerate(records):
        own = {name: z for name, values in deviations.items() if (z := values[place]) is not None}
        asymmetry = {name: value for name, values in sides.items() if (value := values[place]) is not None}
        reasons = tuple(_reasons(record, own, quota))
        found.append(Standing(own, asymmetry, reasons, _suspicion(record, own)))
    return found


def _asymmetry(record: Record, left: str, right: str) -> float | None:
    one, other = record.values.get(left), record.values.get(right)
    return None if not one or not other else round(2 * (one - other) / (one + other), 4)


def _proportions(columns: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Return the log ratio of each label's volume to the first one's; a wrong shape may have a usual size."""
    (first, *others) = columns
    return {
        f"{other} over {first}": [
            float(np.log(one / base)) if one and base else None
            for one, base in zip(columns[other], columns[first], strict=True)
        ]
        for other in others
    }


def _reasons(record: Record, deviations: Mapping[str, float], quota: Quota | None) -> list[str]:
    report = record.report
    said = [record.reason or record.kind] if record.status == FAILED else []
    if report and not any(record.values.values()):
        said.append("no label was found")
    said += report.get("plausibility") or []
    for name, z in deviations.items():
        if abs(z) >= FAR and not (name == "score" and z < 0):
            side = "above" if z > 0 else "below"
            said.append(f"{name} is {abs(z):.1f} robust deviations {side} the cohort's median")
    score = report.get("score")
    if quota is not None and score is not None and score >= quota.threshold:
        said.append(f"score {score} is in the quota of {quota.share:.0%}, from {quota.threshold:.4g}")
    if quota is None and report.get("review") and not said:
        said.append("its score reaches the bundle's threshold")
    return said


def _suspicion(record: Record, deviations: Mapping[str, float]) -> float:
    """Combine the largest deviation with implausible facts; failed and empty cases come first."""
    if record.status == FAILED or (record.report and not any(record.values.values())):
        return 1000.0
    far = [abs(z) for name, z in deviations.items() if name != "score"]
    far.append(max(deviations.get("score", 0.0), 0.0))
    return round(max(far, default=0.0) + SENTENCE * len(record.report.get("plausibility") or ()), 2)


def positions(values: Sequence[float], width: float) -> NDArray[np.float64]:
    """Map values to positions from 0 to `width`, smallest to largest."""
    array = np.asarray(values, dtype=float)
    low, high = float(array.min()), float(array.max())
    return (array - low) / max(high - low, 1e-12) * width
