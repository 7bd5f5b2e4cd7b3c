"""Which series are segmented, and with what: a JSON list of rules, the first that accepts a series wins."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..depth import Depth, DepthLike
from ..errors import InputError

LONGEST_TEXT = 1024  # characters of a value; a description has 64, six numbers have 101
OWN_MODALITIES = ("SEG", "SR", "RTSTRUCT")  # what we store is never taken for input


@dataclass(frozen=True)
class SeriesFacts:
    """What a rule may know of a series."""

    study: str  # Study Instance UID
    series: str  # Series Instance UID
    instances: tuple[str, ...]  # SOP Instance UIDs, sorted
    modality: str
    description: str
    body_part: str
    slices: int  # instances, or frames of a single multi-frame instance
    spacing: tuple[float, float, float] | None  # mm between columns, rows, slices; None: not stated

    @property
    def fingerprint(self) -> str:
        """Hash of the set of instances: the same for a series sent again, another one if instances were added."""
        return hashlib.sha256("\n".join(self.instances).encode()).hexdigest()

    @classmethod
    def from_headers(cls, headers: Sequence[Mapping[str, str]]) -> "SeriesFacts":
        """Gather facts of the instances of one series; values too long to be any that we look at are left out.

        Args:
            headers: keyword -> text as in the file (values joined by backslashes), the first one complete, of the
                others at least `SOPInstanceUID`, `ImagePositionPatient`.
        """
        headers = [
            {keyword: text for keyword, text in header.items() if len(text) <= LONGEST_TEXT} for header in headers
        ]
        first = headers[0]
        frames = _frames(first.get("NumberOfFrames", ""))
        return cls(
            study=first.get("StudyInstanceUID", ""),
            series=first.get("SeriesInstanceUID", ""),
            instances=tuple(sorted({header["SOPInstanceUID"] for header in headers})),
            modality=first.get("Modality", ""),
            description=first.get("SeriesDescription", ""),
            body_part=first.get("BodyPartExamined", ""),
            slices=frames if len(headers) == 1 and frames is not None else len(headers),
            spacing=_spacing(headers),
        )


@dataclass(frozen=True)
class Rule:
    """What a series must be; what is None is not looked at."""

    modality: str  # such as "MR"
    description: str | None = None  # regular expression, found anywhere in the series description, in any case
    body_part: str | None = None  # as BodyPartExamined, in any case
    min_slices: int | None = None
    max_slices: int | None = None
    spacing_mm: Mapping[str, float] | None = None  # "min", "max", mm: bounds for each of the three axes
    bundle: str | None = None  # folder, seen from the rule file's; None: the listener's default
    depth: DepthLike = None  # parsed; None: what the bundle says
    any_modality: bool = False  # also segment a series of a modality that the bundle was not trained for
    trust: bool = False  # the configs of `bundle` may run anything

    def __post_init__(self) -> None:
        if self.depth is not None:
            object.__setattr__(self, "depth", Depth.parse(self.depth))

    def objection(self, facts: SeriesFacts) -> str | None:
        """Name of the first condition that the series does not meet, None if it meets all."""
        conditions = {
            "modality": facts.modality == self.modality,
            "description": self.description is None or re.search(self.description, facts.description, re.IGNORECASE),
            "body_part": self.body_part is None or facts.body_part.upper() == self.body_part.upper(),
            "min_slices": self.min_slices is None or facts.slices >= self.min_slices,
            "max_slices": self.max_slices is None or facts.slices <= self.max_slices,
            "spacing_mm": self.spacing_mm is None or _within(facts.spacing, self.spacing_mm),
        }
        return next((name for name, met in conditions.items() if not met), None)

    def to_json(self) -> str:
        """Write the rule as an object of a rule file."""
        values = {name: getattr(self, name) for name in CONDITIONS}
        return json.dumps({name: value for name, value in values.items() if value not in (None, False)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> "Rule":
        """Read what `to_json` wrote; null is what is not looked at.

        Raises:
            InputError: it is not valid.
        """
        values = {name: value for name, value in json.loads(text).items() if value is not None}
        return _rule(values, "a rule of the journal", Path())


CONDITIONS = tuple(field.name for field in fields(Rule))


def choose_rule(rules: Sequence[Rule], facts: SeriesFacts) -> tuple[int | None, str]:
    """Find the first rule that accepts a series.

    Returns:
        Its index and "", or None and the condition at which the rule that came furthest gave up.
    """
    objections = [rule.objection(facts) for rule in rules]
    if None in objections:
        return objections.index(None), ""
    return None, max((name for name in objections if name), key=CONDITIONS.index)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a rule file, a JSON list of objects with the fields of `Rule`.

    Raises:
        InputError: not such a file; the message names the rule.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"rules must be a JSON file, got {path} ({error}); check the path and its content") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"a rule file must hold a list of at least one rule, got {type(entries).__name__} in {path}")
    return tuple(_rule(entry, f"rule {number} of {path}", path.parent) for number, entry in enumerate(entries, 1))


def _rule(entry: Any, name: str, folder: Path) -> Rule:
    if not isinstance(entry, dict):
        raise InputError(f"{name} must be an object such as {{'modality': 'MR'}}, got {entry!r}")
    if unknown := sorted(set(entry) - set(CONDITIONS)):
        raise InputError(f"{name} must have only the keys {', '.join(CONDITIONS)}, got {', '.join(unknown)}")
    for key in ("modality", "description", "body_part", "bundle"):
        if not isinstance(entry.get(key, ""), str):
            raise InputError(f"{name} must have a text as {key}, got {entry[key]!r}")
    if not isinstance(entry.get("any_modality", False), bool):
        raise InputError(f"{name} must have true or false as any_modality, got {entry['any_modality']!r}")
    if not entry.get("modality") or entry["modality"] in OWN_MODALITIES:
        raise InputError(
            f"{name} must name the modality of images, such as 'MR', got {entry.get('modality')!r}; "
            f"{', '.join(OWN_MODALITIES)} are results"
        )
    if not isinstance(entry.get("trust", False), bool) or (entry.get("trust") and not entry.get("bundle")):
        raise InputError(f"{name} must have true or false as trust, beside a bundle, got {entry['trust']!r}")
    _check_expression(entry.get("description", ""), name)
    _check_numbers(entry, name)
    bundle = entry.get("bundle")
    if bundle is not None and (folder / bundle).is_dir():
        bundle = str((folder / bundle).resolve())
    try:
        return Rule(**{**entry, "bundle": bundle})
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _check_expression(text: str, name: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise InputError(f"{name} must have a regular expression as description, got {text!r} ({error})") from error


def _check_numbers(entry: Mapping[str, Any], name: str) -> None:
    for key in ("min_slices", "max_slices"):
        if type(entry.get(key, 1)) is not int or entry.get(key, 1) < 1:
            raise InputError(f"{name} must have a whole number >= 1 as {key}, got {entry[key]!r}")
    if entry.get("min_slices", 1) > entry.get("max_slices", np.inf):
        raise InputError(f"{name} must have min_slices <= max_slices, got {entry['min_slices']}, {entry['max_slices']}")
    bounds = entry.get("spacing_mm", {})
    if not isinstance(bounds, dict) or not set(bounds) <= {"min", "max"}:
        raise InputError(f"{name} must have spacing_mm such as {{'min': 0.4, 'max': 1.6}}, got {bounds!r}")
    if any(type(value) not in (int, float) or not value > 0 for value in bounds.values()):
        raise InputError(f"{name} must have bounds > 0 mm in spacing_mm, got {bounds!r}")


def _within(spacing: tuple[float, float, float] | None, bounds: Mapping[str, float]) -> bool:
    return spacing is not None and bounds.get("min", 0) <= min(spacing) and max(spacing) <= bounds.get("max", np.inf)


def _spacing(headers: Sequence[Mapping[str, str]]) -> tuple[float, float, float] | None:
    """Mm between columns, rows and slices; None unless the headers say all three in numbers."""
    first = headers[0]
    try:
        down, along = _numbers(first["PixelSpacing"])
        across = float(first["SliceThickness"]) if len(headers) == 1 else _between(headers)
    except (KeyError, ValueError):
        return None
    return (along, down, across) if np.isfinite([along, down, across]).all() else None


def _between(headers: Sequence[Mapping[str, str]]) -> float:
    """Mm between slices: the median."""
    cosines = np.array(_numbers(headers[0]["ImageOrientationPatient"])).reshape(2, 3)
    with np.errstate(all="ignore"):  # of infinities, which end as no number
        normal = np.cross(*cosines)
        places = sorted(float(np.dot(_numbers(header["ImagePositionPatient"]), normal)) for header in headers)
        return float(np.median([after - before for before, after in pairwise(places)]))


def _frames(text: str) -> int | None:
    """A number of frames, which has at most 12 digits; None: it is none."""
    return int(text) if len(text) <= 12 and text.isascii() and text.isdecimal() else None


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("\\")]
