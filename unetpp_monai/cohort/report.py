"""Write the HTML report of a cohort: one file without network access, which saves a reviewer's decisions."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._version import __version__
from ..bundle import Bundle
from ..files import complete_file
from ..io.overview import CONVENTION, alt_text, colour_of
from ..workflows.calibrate import Quota
from .ledger import DONE, EXCLUDED, FAILED, WAITING
from .statistics import FAR, Standing, positions, standings
from .table import Record

REPORT = "report.html"
TEMPLATE = "report.html"  # beside this file
MOST_CASES = 1000  # shown, the most suspicious ones; the tables have all
MOST_BYTES = 10_000_000  # of all pictures together, before base64
FOR_SCRIPT = ("case", "status", "values", "score", "seconds", "reasons", "suspicion", "sha256")  # keys of a case
WIDTH, HEIGHT, JITTER = 460, 64, 40  # pixels of a distribution, and range of its dots' heights


@dataclass(frozen=True)
class About:
    """What the report is about."""

    bundle: Bundle
    kind: str  # of input, in words
    quota: Quota | None = None  # for this site
    late: int = 0  # number of discarded results


def write_report(records: Sequence[Record], pictures: Path, path: Path, *, about: About) -> None:
    """Write the report.

    Args:
        records: of the cohort.
        pictures: folder of `<id>.webp`.
        path: of the file.
        about: what it is about.

    Raises:
        OutputError: it cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    judged = standings(records, about.bundle.labels, quota=about.quota)
    order = sorted(range(len(records)), key=lambda place: -judged[place].suspicion)
    places = order[:MOST_CASES]
    shown = _Pictures(pictures)
    cases = [_case(records[place], judged[place], about.bundle, shown) for place in places]
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template(TEMPLATE).render(
        about=about,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        counts=_counts(records, judged),
        cases=cases,
        data=[{key: case[key] for key in FOR_SCRIPT} for case in cases],
        left_out=len(records) - len(cases),
        distributions=_distributions(records, about.bundle),
        labels=[{"name": label.name, "colour": _hex(colour_of(label.index))} for label in about.bundle.labels],
        seconds=_seconds(records),
        far=FAR,
        convention=CONVENTION if about.bundle.input.spatial_dims == 3 else "",
    )
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class _Pictures:
    """Pictures as data URLs, up to `MOST_BYTES` in all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._room = folder, MOST_BYTES

    def __call__(self, name: str) -> str:
        """Return the URL of a case's picture; empty: it has none, or the limit is reached."""
        try:
            content = (self._folder / f"{name}.webp").read_bytes() if name else b""
        except OSError:
            return ""
        if not content or len(content) > self._room:
            return ""
        self._room -= len(content)
        return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _case(record: Record, standing: Standing, bundle: Bundle, pictures: _Pictures) -> dict[str, Any]:
    """Return what the page shows of a case, in JSON types."""
    values = [
        {
            "label": label.name,
            "value": record.values.get(label.name),
            "z": standing.deviations.get(label.name),
        }
        for label in bundle.labels
    ]
    return {
        "case": record.case,
        "status": EXCLUDED if record.excluded else record.status,
        "picture": pictures(record.id),
        "alt": alt_text(record.case, record.values),
        "values": values if record.report else [],
        "asymmetry": dict(standing.asymmetry),
        "score": record.report.get("score"),
        "seconds": record.seconds,
        "reasons": list(standing.reasons),
        "suspicion": standing.suspicion,
        "note": record.note,
        "excluded": record.excluded,
        "sha256": record.sha256,
    }


def _counts(records: Sequence[Record], judged: Sequence[Standing]) -> dict[str, int]:
    counts = Counter(EXCLUDED if record.excluded else record.status for record in records)
    flagged = sum(bool(standing.reasons) for standing in judged)
    states = {state: counts[state] for state in (DONE, FAILED, EXCLUDED, WAITING)}
    return {"cases": len(records), **states, "flagged": flagged}


def _distributions(records: Sequence[Record], bundle: Bundle) -> list[dict[str, Any]]:
    """Return the dots of each label, one per case."""
    found = []
    for label in bundle.labels:
        known = [(r.case, r.values[label.name]) for r in records if not r.excluded and label.name in r.values]
        if not known:
            continue
        values = [value for _, value in known]
        dots = [
            {"case": case, "value": value, "x": round(float(x), 1), "y": _jitter(place)}
            for place, ((case, value), x) in enumerate(zip(known, positions(values, WIDTH), strict=True))
        ]
        unit = "mL" if bundle.input.spatial_dims == 3 else "pixels"
        found.append(
            {
                "name": label.name,
                "unit": unit,
                "colour": _hex(colour_of(label.index)),
                "dots": dots,
                "low": min(values),
                "high": max(values),
                "median": sorted(values)[len(values) // 2],
            }
        )
    return found


def _jitter(place: int) -> float:
    """Return the height of a dot, spread evenly and without randomness."""
    return round(HEIGHT / 2 + JITTER * (math.modf(place * 0.618034)[0] - 0.5), 1)


def _seconds(records: Sequence[Record]) -> dict[str, float]:
    """Return the mean wall time of each step, s."""
    reports = [record.report["seconds"] for record in records if record.report]
    steps: Mapping[str, None] = dict.fromkeys(step for report in reports for step in report)
    return {step: round(sum(report.get(step, 0.0) for report in reports) / len(reports), 3) for step in steps}


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
