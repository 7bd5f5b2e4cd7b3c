"""Which loop gets which case, and what becomes of the cases of a worker that died."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from .cases import Case
from .ledger import ELSEWHERE, FAILED, Ledger, Outcome
from .loop import Loop
from .work import Task

POLL_SECONDS = 1.0  # between two looks at cases that others have claimed
AGAIN = "tried again alone with smaller batches, since {}"


@dataclass(frozen=True)
class Lost:
    """A case whose worker died."""

    case: Case
    how: str  # in words
    memory: bool = False  # the system says that it ran out of memory


class Crew(Protocol):
    """Workers, each with a loop, wherever they are; a context manager."""

    def __enter__(self) -> "Crew":
        """Start them."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""

    def has_room(self) -> bool:
        """Whether one of them takes another case now."""

    def give(self, task: Task) -> None:
        """Give a case to one of them."""

    def wait(self) -> Sequence[Outcome | Lost]:
        """Wait for results of the cases that were given out; replace dead workers."""


class Alone:
    """A crew of this process only: a case is segmented when it is given."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._came: list[Outcome] = []

    def __enter__(self) -> "Alone":
        self._loop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.__exit__(kind, error, trace)

    def has_room(self) -> bool:
        """As `Crew.has_room`."""
        return not self._came

    def give(self, task: Task) -> None:
        """As `Crew.give`."""
        self._came.append(self._loop(task))

    def wait(self) -> Sequence[Outcome]:
        """As `Crew.wait`."""
        came, self._came = self._came, []
        return came


def dispatch(crew: Crew, cases: Sequence[Case], ledger: Ledger) -> Iterator[Outcome]:
    """Give all cases to a crew that has been started.

    A case whose worker died is given again; if it was for lack of memory, or for the second time, then alone, after all
    others, with smaller batches; then it has failed. Cases that another loop has claimed are looked at again until it
    has delivered them, or has died.

    Args:
        crew: what segments.
        cases: in the order in which they are given.
        ledger: where failures of workers are noted.

    Yields:
        An outcome of each case, in the order in which they come.
    """
    plan = _Plan(cases)
    while plan.left:
        while crew.has_room() and (task := plan.next()) is not None:
            crew.give(task)
        if not plan.flying:  # all that is left is claimed by others
            time.sleep(POLL_SECONDS)
            plan.look_again()
            continue
        for event in crew.wait():
            outcome = plan.lost(event) if isinstance(event, Lost) else plan.came(event)
            if outcome is None:
                continue
            if isinstance(event, Lost):
                ledger.note(outcome)
            yield outcome


class _Plan:
    """Which cases wait, and for what."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._waiting = deque(Task(case) for case in cases)
        self._alone: deque[Task] = deque()
        self._elsewhere: list[Task] = []
        self.flying: dict[str, Task] = {}
        self._losses: Counter[str] = Counter()

    @property
    def left(self) -> bool:
        """Whether any case has no outcome yet."""
        return bool(self._waiting or self._alone or self._elsewhere or self.flying)

    def next(self) -> Task | None:
        """The next case to give; None: not now."""
        if self._waiting and not any(task.smallest for task in self.flying.values()):
            task = self._waiting.popleft()
        elif self._alone and not self.flying:
            task = self._alone.popleft()
        else:
            return None
        self.flying[task.case.id] = task
        return task

    def look_again(self) -> None:
        """Offer again the cases that others had claimed."""
        self._waiting.extend(self._elsewhere)
        self._elsewhere = []

    def came(self, outcome: Outcome) -> Outcome | None:
        """Take an outcome; None: the case is not through."""
        task = self.flying.pop(outcome.id)
        if outcome.status == ELSEWHERE:
            self._elsewhere.append(task)
            return None
        if outcome.status == FAILED and outcome.memory and not task.smallest:
            self._alone.append(Task(task.case, smallest=True, note=AGAIN.format("it failed for lack of memory")))
            return None
        return outcome

    def lost(self, lost: Lost) -> Outcome | None:
        """Plan another try of a case whose worker died; its failure if there was the last."""
        task = self.flying.pop(lost.case.id)
        self._losses[lost.case.id] += 1
        if task.smallest:
            return Outcome(lost.case.id, FAILED, reason=f"its worker {lost.how}, again", kind="Lost", note=task.note)
        if lost.memory or self._losses[lost.case.id] > 1:
            self._alone.append(Task(task.case, smallest=True, note=AGAIN.format(f"its worker {lost.how}")))
        else:
            self._waiting.appendleft(task)
        return None
