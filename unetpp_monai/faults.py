"""What ends a loop over cases, jobs or requests, and what a log may say of everything else."""

import traceback
from pathlib import Path

STOP = (KeyboardInterrupt, SystemExit, GeneratorExit)  # requests to stop, which are no fault of a case
PACKAGE = Path(__file__).parent
MOST_FRAMES = 8  # of one error, the innermost


def trace_of(error: BaseException) -> str:
    """Name the kinds of an error and of its causes, and our lines that they passed.

    Messages are left out: those of libraries quote what strangers wrote, such as the name of a patient.
    """
    said, seen = [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        lines = [
            f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.lineno}"
            for frame in traceback.extract_tb(cause.__traceback__)
            if Path(frame.filename).is_relative_to(PACKAGE)
        ]
        said.append(" ".join((type(cause).__name__, *lines[-MOST_FRAMES:])))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(said)
