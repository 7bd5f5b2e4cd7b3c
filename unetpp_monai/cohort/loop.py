"""The one loop: claim a case, segment it, deliver it once, record the result. Launchers only start loops."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import UnetppError
from ..faults import trace_of
from ..workflows.done import CaseInput
from ..workflows.many import Row
from .cases import Case
from .claims import Claims
from .ledger import ELSEWHERE, FAILED, WRITTEN, Ledger, Outcome
from .work import Segments, Task, Work

MEMORY_WORDS = (
    "can't allocate",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)  # in errors of libraries that are out of memory


class Loop:
    """Segments the cases that it is given; a context manager that keeps its claims alive.

    Args:
        segments: segments a case.
        work: what to do with each case.
        ledger: of the cohort, with existing folders.
    """

    def __init__(self, segments: Segments, work: Work, ledger: Ledger) -> None:
        self._segments, self._work, self._ledger = segments, work, ledger
        self._claims = Claims(ledger.claims, beat=work.beat, stale=work.stale)
        self._began = 0.0

    def __enter__(self) -> "Loop":
        self._claims.__enter__()
        self._began = self._claims.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._claims.__exit__(kind, error, trace)

    def __call__(self, task: Task) -> Outcome:
        """Segment a case, unless it is done or claimed by another loop.

        Raises:
            OutputError: claims or notes are not writable.
        """
        case, start = task.case, time.perf_counter()
        known = None if task.smallest else self._ledger.failed_since(case.id, self._began)
        if known is not None:
            return known
        again = self._ledger.is_wanted_again(case.id)
        turn = _Turn(case, self._claims, self._work, self._ledger)
        try:
            row = self._segments(case, unless=turn, overwrite=again, smallest=task.smallest)
        finally:
            self._claims.drop(case.id)
        if turn.elsewhere:
            return Outcome(case.id, ELSEWHERE)
        outcome = replace(
            self._outcome(case, row),
            name=turn.name,
            note=task.note,
            late=turn.late,
            seconds=round(time.perf_counter() - start, 4),
        )
        self._ledger.note(outcome)
        if again and row.status == WRITTEN:
            self._clear(case, turn)
        return outcome

    def _clear(self, case: Case, turn: "_Turn") -> None:
        """Remove files of replaced results, and note the replacement."""
        for name in self._work.files_of(str(turn.name)) - turn.files:
            (case.folder / name).unlink(missing_ok=True)
        if self._work.pictures is None:
            self._ledger.picture(case.id).unlink(missing_ok=True)
        self._ledger.replaced(case.id)

    def _outcome(self, case: Case, row: Row) -> Outcome:
        if row.status != FAILED or row.error is None:
            return Outcome(case.id, row.status)
        error = row.error
        # an error message may contain the patient's name
        reason = trace_of(error) if self._ledger.keyed else row.reason
        memory = isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS)
        option = error.option if isinstance(error, UnetppError) and not self._ledger.keyed else None
        return Outcome(case.id, FAILED, reason=reason, kind=type(error).__name__, memory=memory, option=option)


class _Turn:
    """Tells `segment_case` whether a case is to be skipped, and remembers why."""

    def __init__(self, case: Case, claims: Claims, work: Work, ledger: Ledger) -> None:
        self._case, self._claims, self._work, self._ledger = case, claims, work, ledger
        self.name = case.name
        self.files: set[str] = set()  # of its results
        self.claimed = self.elsewhere = self.late = False

    def __call__(self, path: Path, settings: Mapping[str, Any], case_input: CaseInput, names: list[str]) -> bool:
        """Claim the case before computing; before delivering, check that the claim is still ours."""
        self.name = path.name.removesuffix(self._work.request.naming.report)
        self.files = set(names)
        if self._is_done(path, settings, case_input, names):
            self.late = self.claimed
            return True
        if self.claimed:
            self.late = not self._claims.secure(self._case.id)
            return self.late
        self.claimed = self._claims.take(self._case.id)
        self.elsewhere = not self.claimed
        # another process may have delivered it before we claimed it
        return self.elsewhere or self._is_done(path, settings, case_input, names)

    def _is_done(self, path: Path, settings: Mapping[str, Any], case_input: CaseInput, names: list[str]) -> bool:
        again = self._ledger.is_wanted_again(self._case.id)
        return not again and self._work.is_done(path, settings, case_input, names)
