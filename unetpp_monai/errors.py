"""Every error this package raises on purpose, except the network's `ValueError`s (it can be lifted out alone).

UnetppError
├── InputError             the given path or image cannot be segmented; the message says why and what to do
│   ├── GeometryError      positions, spacing or orientation are missing, contradictory or singular
│   │   ├── MissingGeometryError    DICOM images do not say where they are
│   │   ├── MixedGeometryError      size, spacing or orientation differ within a series (a localizer in it)
│   │   ├── MissingSliceError       a gap between slices
│   │   ├── DuplicatePositionError  two slices at one place: copies, or several time points
│   │   └── IrregularSpacingError   slices at uneven distances
│   ├── AmbiguityError     more than one reading is possible, and we do not choose
│   └── CorruptFileError   truncated, or pixels that no decoder takes
├── BundleError            a bundle lacks a file, or its parts do not fit each other
├── TrainingError          a training cannot go on; its log has the trace
│   └── StoppedError           it was asked to stop, and goes on when it is started again
├── OutputError            a result cannot be written, or would overwrite one
│   └── JournalError       the listener's memory cannot be read or written
└── PacsError              an archive refuses what we ask for, or contradicts itself
    └── UnavailableError   it cannot be reached now; the same request may succeed later
"""

LONGEST = 2000  # characters of what an InputError says


def cause_of(error: BaseException) -> BaseException:
    """Find what MONAI wrapped: the first error of ours in a chain of causes, else what its RuntimeErrors are about."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    wrapped = 0
    while isinstance(chain[wrapped], RuntimeError) and wrapped + 1 < len(chain):
        wrapped += 1
    return next((one for one in chain if isinstance(one, UnetppError)), chain[wrapped])


class UnetppError(Exception):
    """Report any fault that this package detects.

    Args:
        message: the constraint, what was given, the way out.
        option: name of the argument that is the way out, such as "overwrite"; the command line adds its flag.

    Example:
        >>> UnetppError("file must not exist", option="overwrite").option
        'overwrite'
    """

    def __init__(self, message: str = "", *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class InputError(UnetppError):
    """The given path or image cannot be segmented.

    The message is one line of at most `LONGEST` characters, whatever values of a file it quotes: the middle is left
    out, so that constraint and way out stay.
    """

    def __init__(self, message: str = "", *, option: str | None = None) -> None:
        line = " ".join(str(message).splitlines())
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half + 5 :]}", option=option)


class GeometryError(InputError):
    """Positions, spacing or orientation are missing, contradictory or singular."""


class MissingGeometryError(GeometryError):
    """DICOM images do not say where they are."""


class MixedGeometryError(GeometryError):
    """Size, spacing or orientation differ within a series."""


class MissingSliceError(GeometryError):
    """There is a gap between slices."""


class DuplicatePositionError(GeometryError):
    """Two slices lie at one place."""


class IrregularSpacingError(GeometryError):
    """Slices lie at uneven distances."""


class AmbiguityError(InputError):
    """More than one reading of the input is possible."""


class CorruptFileError(InputError):
    """A file is truncated or cannot be decoded."""


class BundleError(UnetppError):
    """A bundle lacks a file, or its parts do not fit each other."""


class TrainingError(UnetppError):
    """A training cannot go on."""


class StoppedError(TrainingError):
    """A signal asked a training to stop; its progress is saved.

    Args:
        message: what to say.
        signal: its number.
    """

    def __init__(self, message: str = "", *, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal


class OutputError(UnetppError):
    """A result cannot be written, or would overwrite one."""


class JournalError(OutputError):
    """The listener's memory cannot be read or written, so that it must stop."""


class PacsError(UnetppError):
    """An archive refuses what we ask for, or contradicts itself."""


class UnavailableError(PacsError):
    """An archive cannot be reached or is overloaded; the same request may succeed later."""
