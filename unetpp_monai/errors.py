"""Every error this package raises on purpose, except the network's `ValueError`s (it can be lifted out alone).

UnetppError
├── InputError             the given path or image cannot be segmented; the message says why and what to do
│   ├── GeometryError      positions, spacing or orientation are missing, contradictory or singular
│   └── AmbiguityError     more than one reading is possible, and we do not choose
├── BundleError            a bundle lacks a file, or its parts do not fit each other
└── OutputError            a result cannot be written, or would overwrite one
"""


class UnetppError(Exception):
    """Root of the tree: catch this to catch all."""


class InputError(UnetppError):
    """The given path or image cannot be segmented."""


class GeometryError(InputError):
    """Positions, spacing or orientation are missing, contradictory or singular."""


class AmbiguityError(InputError):
    """More than one reading of the input is possible."""


class BundleError(UnetppError):
    """A bundle lacks a file, or its parts do not fit each other."""


class OutputError(UnetppError):
    """A result cannot be written, or would overwrite one."""
