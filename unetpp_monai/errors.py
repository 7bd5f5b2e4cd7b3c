"""Exception hierarchy. `networks` raises plain ValueError, because it is usable on its own.

UnetppError
├── InputError             the path or image cannot be segmented; the message says why and what to do
│   ├── GeometryError      positions, spacing or orientation are missing, contradictory or singular
│   │   ├── MissingGeometryError    DICOM images without position or orientation
│   │   ├── MixedGeometryError      size, spacing or orientation differ within a series (a localizer in it)
│   │   ├── MissingSliceError       a gap between slices
│   │   ├── DuplicatePositionError  two slices at one position: copies, or several time points
│   │   └── IrregularSpacingError   slices at uneven distances
│   ├── AmbiguityError     the input can be read in several ways
│   └── CorruptFileError   truncated file or unsupported compression
├── BundleError            a bundle lacks a file, or its parts do not fit each other
├── TrainingError          a training failed; its log has the trace
│   └── StoppedError           stopped by a signal; run it again to resume
├── OutputError            a result cannot be written, or would overwrite one
│   └── JournalError       the listener's journal cannot be read or written
└── PacsError              an archive refuses a request, or contradicts itself
    └── UnavailableError   it cannot be reached now; retrying may succeed
"""

LONGEST = 2000  # most characters of an InputError


def cause_of(error: BaseException) -> BaseException:
    """Find the cause of an error that MONAI wrapped: the first of ours, else the cause of its RuntimeErrors."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    wrapped = 0
    while isinstance(chain[wrapped], RuntimeError) and wrapped + 1 < len(chain):
        wrapped += 1
    return next((one for one in chain if isinstance(one, UnetppError)), chain[wrapped])


class UnetppError(Exception):
    """Base of all errors of this package.

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

    The message is one line of at most `LONGEST` characters; longer ones are cut in the middle, which keeps constraint
    and way out.
    """

    def __init__(self, message: str = "", *, option: str | None = None) -> None:
        line = " ".join(str(message).splitlines())
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half + 5 :]}", option=option)


class GeometryError(InputError):
    """Positions, spacing or orientation are missing, contradictory or singular."""


class MissingGeometryError(GeometryError):
    """DICOM images have no position or orientation."""


class MixedGeometryError(GeometryError):
    """Size, spacing or orientation differ within a series."""


class MissingSliceError(GeometryError):
    """There is a gap between slices."""


class DuplicatePositionError(GeometryError):
    """Two slices have the same position."""


class IrregularSpacingError(GeometryError):
    """Slices have uneven distances."""


class AmbiguityError(InputError):
    """The input can be read in several ways."""


class CorruptFileError(InputError):
    """A file is truncated or cannot be decoded."""


class BundleError(UnetppError):
    """A bundle lacks a file, or its parts do not fit each other."""


class TrainingError(UnetppError):
    """A training failed."""


class StoppedError(TrainingError):
    """A training was stopped by a signal; its progress is saved.

    Args:
        message: for the user.
        signal: its number.
    """

    def __init__(self, message: str = "", *, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal


class OutputError(UnetppError):
    """A result cannot be written, or would overwrite one."""


class JournalError(OutputError):
    """The listener's journal cannot be read or written."""


class PacsError(UnetppError):
    """An archive refuses a request, or contradicts itself."""


class UnavailableError(PacsError):
    """An archive cannot be reached or is overloaded; the same request may succeed later."""
