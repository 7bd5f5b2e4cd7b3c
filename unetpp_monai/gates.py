"""Check what was located and segmented in a whole image: ranges of volumes, ratios, sizes and uncertainty.

As in `plausibility`, findings are sentences for review; no result is changed or removed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .errors import BundleError
from .located import Found, Located
from .plausibility import AXES, Range, as_range, outside


@dataclass(frozen=True)
class Gates:
    """Ranges of a bundle with a locator, from `gates` in its metadata; None: not checked.

    Example:
        >>> gates = Gates.from_json({"brain": [800, 1900], "source": "20 label maps"})
        >>> gates.implausible(Located((), 310.0), {})
        ('brain is 310 mL, expected 800 to 1900',)
    """

    source: str = ""  # origin of the ranges, for people
    size: tuple[Range, ...] = ()  # of each located structure, mm along `AXES`; empty: not checked
    located: Range | None = None  # volume of each located structure, mL
    doubt: Range | None = None  # uncertainty of the locator, 0 (certain) to 1
    brain: Range | None = None  # as located, mL
    volume: Range | None = None  # of each segmented structure with all its labels, mL
    sides: Range | None = None  # volume of a structure over that of the next
    parts: Range | None = None  # volume of a structure's first label over that of its second

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Gates":
        """Read `gates` of a bundle's metadata.

        Raises:
            BundleError: unknown keys or invalid ranges.
        """
        try:
            source, size = str(stated.get("source", "")), tuple(map(as_range, stated.get("size", ())))
            others = {key: as_range(value) for key, value in stated.items() if key not in ("source", "size")}
            return cls(source=source, size=size, **others)
        except (TypeError, ValueError, AttributeError) as error:
            names = ", ".join(cls.__dataclass_fields__)
            raise BundleError(f"gates must hold lower and upper bounds for any of {names}, got {error!r}") from error

    def implausible(self, located: Located, ml: Mapping[int, float]) -> tuple[str, ...]:
        """Return one sentence for each value out of range.

        Args:
            located: structures found in an image.
            ml: label index -> volume, mL.
        """
        return tuple(self._sentences(located, ml))

    def _sentences(self, located: Located, ml: Mapping[int, float]) -> Iterator[str]:
        yield from located.remarks
        yield from _outside("brain", located.brain_ml, self.brain, "mL")
        totals = [sum(ml.get(label, 0.0) for label in found.labels) for found in located.found]
        for found, total in zip(located.found, totals, strict=True):
            yield from self._of_structure(found, total, ml)
        for (first, one), (second, other) in pairwise(zip(located.found, totals, strict=True)):
            yield from _ratio(f"volume of {first.name} over {second.name}", one, other, self.sides)

    def _of_structure(self, found: Found, total: float, ml: Mapping[int, float]) -> Iterator[str]:
        if found.cut:
            yield f"{found.name} reaches the end of the image, where some of it may be missing"
        for axis, length, bounds in zip(AXES, found.size, self.size, strict=False):
            yield from outside(f"size of {found.name} to the {axis}", length, bounds, "mm")
        yield from _outside(f"volume of {found.name} as located", found.ml, self.located, "mL")
        yield from _outside(f"the locator's uncertainty of {found.name}", found.uncertainty, self.doubt, "")
        yield from _outside(f"volume of {found.name}", total, self.volume, "mL")
        if len(found.labels) > 1:
            first, second = (ml.get(label, 0.0) for label in found.labels[:2])
            yield from _ratio(f"volume of the first label of {found.name} over the second", first, second, self.parts)


def _outside(what: str, value: float, bounds: Range | None, unit: str) -> Iterator[str]:
    if bounds is not None:
        yield from outside(what, value, bounds, unit)


def _ratio(what: str, first: float, second: float, bounds: Range | None) -> Iterator[str]:
    if bounds is not None:
        yield from outside(what, first / second if second else float("inf"), bounds, "")
