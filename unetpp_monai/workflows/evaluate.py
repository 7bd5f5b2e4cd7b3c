"""Two folders of label maps in, accuracy per case and over all cases out. Knows no network and draws nothing."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..files import complete_file
from ..volume import Volume
from .label_pairs import GRID_TOLERANCE, check_grids, labels_of, pair_label_maps, read_label_map, unit_of
from .metrics import CONVENTIONS, MaskMetrics, compare_masks

METRICS = tuple(field.name for field in fields(MaskMetrics))
RESAMPLES = 9999  # of the bootstrap
CONFIDENCE = 0.95  # of the bootstrap's interval


@dataclass(frozen=True)
class CaseMetrics(MaskMetrics):
    """How one label of one case compares with its reference."""

    case: str
    label: str


@dataclass(frozen=True)
class Summary:
    """One metric of one label over all cases."""

    label: str
    metric: str  # one of METRICS
    mean: float | None
    low: float | None  # 95 % bootstrap interval of the mean
    high: float | None
    sd: float | None  # of the cases
    median: float | None
    cases: int  # whose value is defined


@dataclass(frozen=True)
class Report:
    """An evaluation: every case, and their summary."""

    rows: tuple[CaseMetrics, ...]  # by case, then label
    summary: tuple[Summary, ...]  # by label, then metric
    tolerance: float  # of surface Dice, mm (pictures: pixels)
    unit: str  # of lengths: "mm" or "px"
    without_prediction: tuple[str, ...]  # references that nothing was compared with

    def worst(self, count: int = 3) -> list[tuple[str, float]]:
        """Cases with the lowest Dice, mean over their labels, lowest first."""
        return sorted(self.mean_dice().items(), key=lambda entry: entry[1])[:count]

    def mean_dice(self) -> dict[str, float]:
        """Case -> Dice, mean over its labels."""
        cases: dict[str, list[float]] = {}
        for row in self.rows:
            cases.setdefault(row.case, []).append(row.dice)
        return {case: float(np.mean(values)) for case, values in cases.items()}

    def names(self) -> dict[str, str]:
        """Metric -> its name with unit, for people."""
        size, unit = ("volume", "mL") if self.unit == "mm" else ("area", "px")
        return {
            "dice": "Dice",
            "iou": "IoU",
            "hd95": f"HD95 {self.unit}",
            "surface_dice": f"surface Dice {self.tolerance:g} {self.unit}",
            "volume_error": f"{size} error {unit}",
            "volume_error_percent": f"{size} error %",
        }

    def spread(self) -> dict[str, dict[str, list[float]]]:
        """Metric's name for people -> label -> defined values of the cases."""
        spread: dict[str, dict[str, list[float]]] = {}
        for metric, name in self.names().items():
            labels = spread.setdefault(name, {})
            for row in self.rows:
                value = getattr(row, metric)
                labels.setdefault(row.label, []).extend([] if value is None else [value])
        return spread


def evaluate(
    predictions: str | Path,
    references: str | Path,
    *,
    labels: Mapping[int, str] | None = None,
    tolerance: float = 1.0,
    grid_tolerance: float = GRID_TOLERANCE,
    reference_values: Sequence[int] = (),
    partial: bool = False,
) -> Report:
    """Compare label maps with their references.

    Args:
        predictions: folder (or file) of label maps.
        references: folder (or file) of label maps on the same grids, paired by name.
        labels: index -> name of the labels to compare; None = every value above 0 that occurs, named by its number.
        tolerance: of surface Dice, mm (pictures: pixels), >= 0.
        grid_tolerance: by how much the corners of two grids of one shape may be apart along an axis, voxels, >= 0.
        reference_values: the references' values of the labels 0, 1, 2, ...; () = the labels themselves.
        partial: compare the cases that have a prediction, instead of refusing references that have none.

    Returns:
        The metrics of every case and label, and their summary over all cases.

    Raises:
        InputError: no pair, a prediction without reference (or the reverse), values that are no labels.
        GeometryError: prediction and reference are on different grids.
        OutputError: scipy is not installed.

    Example:
        >>> report = evaluate("predictions", "references", labels={1: "kidney"})
        >>> report.worst(1)
        [('case', 1.0)]
    """
    try:
        import scipy  # noqa: F401 - MONAI's surface distances need it and fail late without
    except ImportError as error:
        raise OutputError("an evaluation needs scipy; pip install 'unetpp_monai[train]'") from error
    if not tolerance >= 0:
        raise InputError(f"tolerance must be >= 0, got {tolerance}")
    if not 0 <= grid_tolerance < math.inf:
        raise InputError(f"grid_tolerance must be >= 0 voxels and finite, got {grid_tolerance}")
    pairs, missing = pair_label_maps(predictions, references, partial=partial)
    unit = unit_of(path for pair in pairs.values() for path in pair)
    found = labels or labels_of(pairs, reference_values)
    rows = []
    for case, (prediction, reference) in pairs.items():
        volumes = (read_label_map(prediction, found, ()), read_label_map(reference, found, reference_values))
        check_grids(case, *volumes, grid_tolerance)
        rows += compare_case(case, *volumes, labels=found, tolerance=tolerance, unit=unit)
    return Report(tuple(rows), summarise(rows), tolerance, unit, tuple(missing))


def summarise(rows: Sequence[CaseMetrics]) -> tuple[Summary, ...]:
    """Mean, interval, spread and median of every metric, per label and over the cases' means of all labels."""
    labels = list(dict.fromkeys(row.label for row in rows))
    summaries = [
        _summary(label, metric, [getattr(row, metric) for row in rows if row.label == label])
        for label in labels
        for metric in METRICS
    ]
    return tuple(summaries)


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON, and every case as CSV beside it.

    Args:
        report: what to write.
        path: `.json`; the table goes to the same name with `.csv`.

    Raises:
        OutputError: a file cannot be written.
    """
    document = {"conventions": CONVENTIONS, **asdict(report)}
    with complete_file(path.with_suffix(".csv")) as table, complete_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["case", "label", *METRICS])
            writer.writeheader()
            writer.writerows(asdict(row) for row in report.rows)


def compare_case(
    case: str, prediction: Volume, reference: Volume, *, labels: Mapping[int, str], tolerance: float, unit: str
) -> list[CaseMetrics]:
    """Compare two label maps `(1, X, Y, Z)` of one grid, label by label; as `evaluate` takes its arguments."""
    size = prediction.voxel_ml if unit == "mm" else 1.0
    rows = []
    for index, name in labels.items():
        masks = prediction.array[0] == index, reference.array[0] == index
        metrics = compare_masks(*masks, spacing=prediction.spacing, tolerance=tolerance, voxel_size=size)
        rows.append(CaseMetrics(**asdict(metrics), case=case, label=name))
    return rows


def _summary(label: str, metric: str, values: Sequence[float | None]) -> Summary:
    defined = np.array([value for value in values if value is not None and math.isfinite(value)])
    if not len(defined):
        return Summary(label, metric, None, None, None, None, None, 0)
    low, high = interval(defined)
    sd = float(defined.std(ddof=1)) if len(defined) > 1 else None
    return Summary(label, metric, float(defined.mean()), low, high, sd, float(np.median(defined)), len(defined))


def interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the mean over cases, seeded; None for fewer than two cases."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None, None
    result = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
