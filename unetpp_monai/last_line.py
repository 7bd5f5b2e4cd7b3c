"""Our sentence as the last line of a program that ends with one of our errors inside another's."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

from .errors import UnetppError

PACKAGE = Path(__file__).resolve().parent


def say_ours_last() -> None:
    """Let this process end with our sentence where an error of ours ends it.

    `python -m monai.bundle run` raises what an expression raises within "Failed to evaluate ConfigExpression", whose
    text comes last. The traceback stays, and what was set before is called first.
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
    """What we say of an error that is one of ours or was raised by one, in one line; empty if there is none."""
    inner: BaseException | None = error
    while inner is not None:
        if inner is not error and _is_ours(inner):
            return " ".join(str(inner).split())
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return ""


def _is_ours(error: BaseException) -> bool:
    """Whether we raised it on purpose; the network has ValueErrors."""
    if isinstance(error, UnetppError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
