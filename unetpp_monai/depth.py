"""Depth of evaluation: a number, the whole network, or as deep as each window needs."""

from dataclasses import dataclass
from typing import Union

from .errors import InputError

AUTO, ALL = "auto", ("full", "all")  # accepted words; the first of `ALL` is written

DepthLike = Union["Depth", int, str, None]  # what `Depth.parse` takes


@dataclass(frozen=True)
class Depth:
    """A choice of depth.

    Example:
        >>> str(Depth.parse("2")), str(Depth.parse(None)), Depth.parse("auto").adaptive
        ('2', 'full', True)
        >>> Depth.parse("full").resolve(first_head=1, last=3)
        Depth(number=3, adaptive=False)
    """

    number: int | None = None  # anti-diagonals to evaluate, 1 ...; None: all, or as many as each window needs
    adaptive: bool = False  # each window as deep as it needs

    @classmethod
    def parse(cls, value: DepthLike) -> "Depth":
        """Parse a depth from users or files.

        Args:
            value: a number >= 1 or its digits, "auto", "full" or "all"; None = all.

        Raises:
            InputError: anything else.
        """
        if isinstance(value, Depth):
            return value
        if value is None or value in ALL:
            return cls()
        if value == AUTO:
            return cls(adaptive=True)
        if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
            raise InputError(f"depth must be a number >= 1, auto or full, got {value}")
        return cls(int(value))

    @property
    def has_score(self) -> bool:
        """Whether scores exist: every window passes the same heads, at least two."""
        return self.number != 1 and not self.adaptive

    def resolve(self, first_head: int, last: int) -> "Depth":
        """Return the depth for a network: "full" becomes its number.

        Args:
            first_head: the smallest depth with a head.
            last: the deepest.

        Raises:
            InputError: no such depth.
        """
        number = last if self == Depth() else self.number
        missing = first_head > 1 if number is None else not first_head <= number <= last
        if missing:
            raise InputError(
                f"depth must be from {first_head} to {last}{', auto' * (first_head == 1)} or full, got {self}"
            )
        return Depth(number, self.adaptive)

    @property
    def value(self) -> int | str:
        """The number, "auto" or "full", as in reports."""
        return AUTO if self.adaptive else ALL[0] if self.number is None else self.number

    def __str__(self) -> str:
        return str(self.value)
