"""Print our error message as the last line if it ends a program inside another error."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

from .errors import UnetppError

PACKAGE = Path(__file__).resolve().parent


def say_ours_last() -> None:
    """Install a hook that prints our message last.

    `python -m monai.bundle run` wraps errors of expressions in "Failed to evaluate ConfigExpression", which is printed
    last. The traceback stays, and the previous hook is called first.
    """
    before = sys.excepthook
    if getattr(before, "says_ours_last", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if sentence := sentence_of(error):
            print(f"error: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - as the interpreter does

    hook.says_ours_last = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def sentence_of(error: BaseException) -> str:
    """Return the one-line message of our error, or of ours in its causes; empty if none."""
    inner: BaseException | None = error
    while inner is not None:
        if inner is not error and _is_ours(inner):
            return " ".join(str(inner).split())
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return ""


def _is_ours(error: BaseException) -> bool:
    """Tell whether an error is ours, including ValueErrors of the network."""
    if isinstance(error, UnetppError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
