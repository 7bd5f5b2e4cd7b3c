"""Errors that end a loop over cases, jobs or requests, and safe logging of others."""

import traceback
from pathlib import Path

STOP = (KeyboardInterrupt, SystemExit, GeneratorExit)  # requests to stop, not errors of a case
PACKAGE = Path(__file__).parent
MOST_FRAMES = 8  # of one error, the innermost


def trace_of(error: BaseException) -> str:
    """Return the types of an error and its causes, with the lines of our code.

    Without messages: those of libraries may quote file contents, such as a patient's name.
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
