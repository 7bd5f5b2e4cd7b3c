"""Give cases to loops, and plan another try for the case of a worker that died."""

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

POLL_SECONDS = 1.0  # between two checks of cases that other loops have claimed
AGAIN = "tried again alone with smaller batches because {}"


@dataclass(frozen=True)
class Lost:
    """A case whose worker died."""

    case: Case
    how: str  # in words
    memory: bool = False  # the system was out of memory


class Crew(Protocol):
    """A group of workers, each with a loop; a context manager."""

    def __enter__(self) -> "Crew":
        """Start the workers."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""

    def has_room(self) -> bool:
        """Tell whether a worker can take another case now."""

    def give(self, task: Task) -> None:
        """Give a case to a worker."""

    def wait(self) -> Sequence[Outcome | Lost]:
        """Wait for outcomes, and replace dead workers."""


class Alone:
    """A crew without workers: a case is segmented in this process when it is given."""

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
    """Give all cases to a running crew.

    If a worker dies, its case is given to another. After a second death, or one for lack of memory, the case is tried
    once more: after all others, alone and with smaller batches. Then it has failed. Cases that another loop has claimed
    are checked again until that loop has delivered them or died.

    Args:
        crew: segments the cases.
        cases: in this order.
        ledger: for failures of workers.

    Yields:
        The outcome of each case, in the order in which they finish.
    """
    plan = _Plan(cases)
    while plan.left:
        while crew.has_room() and (task := plan.next()) is not None:
            crew.give(task)
        if not plan.flying:  # other loops have claimed all that is left
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
    """Keeps track of waiting and running cases."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._waiting = deque(Task(case) for case in cases)
        self._alone: deque[Task] = deque()
        self._elsewhere: list[Task] = []
        self.flying: dict[str, Task] = {}
        self._losses: Counter[str] = Counter()

    @property
    def left(self) -> bool:
        """Tell whether any case has no outcome yet."""
        return bool(self._waiting or self._alone or self._elsewhere or self.flying)

    def next(self) -> Task | None:
        """Return the next case to give; None: none can be given now."""
        if self._waiting and not any(task.smallest for task in self.flying.values()):
            task = self._waiting.popleft()
        elif self._alone and not self.flying:
            task = self._alone.popleft()
        else:
            return None
        self.flying[task.case.id] = task
        return task

    def look_again(self) -> None:
        """Put the cases that other loops had claimed back into the queue."""
        self._waiting.extend(self._elsewhere)
        self._elsewhere = []

    def came(self, outcome: Outcome) -> Outcome | None:
        """Record an outcome; None: the case is not finished."""
        task = self.flying.pop(outcome.id)
        if outcome.status == ELSEWHERE:
            self._elsewhere.append(task)
            return None
        if outcome.status == FAILED and outcome.memory and not task.smallest:
            self._alone.append(Task(task.case, smallest=True, note=AGAIN.format("it failed for lack of memory")))
            return None
        return outcome

    def lost(self, lost: Lost) -> Outcome | None:
        """Plan another try of a case whose worker died; return its failure if that was the last try."""
        task = self.flying.pop(lost.case.id)
        self._losses[lost.case.id] += 1
        if task.smallest:
            return Outcome(lost.case.id, FAILED, reason=f"its worker {lost.how}, again", kind="Lost", note=task.note)
        if lost.memory or self._losses[lost.case.id] > 1:
            self._alone.append(Task(task.case, smallest=True, note=AGAIN.format(f"its worker {lost.how}")))
        else:
            self._waiting.appendleft(task)
        return None
