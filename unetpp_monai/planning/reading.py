"""Read the cases of a data set in processes that end with this one."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

from ..io import files_of_image
from .dataset import Case, Dataset, Fault
from .examine import Examined, examine

PROCESSES = 2  # reading cases in parallel
ALONE = 40 << 20  # bytes of files below which starting processes does not pay


def examine_all(dataset: Dataset, progress: Callable[[int], None]) -> Iterator[Examined]:
    """Examine every case once, in `PROCESSES` processes if files are large; in any order.

    Args:
        dataset: its cases.
        progress: called with the number of cases done.
    """
    known = tuple(dataset.labels)
    sizes = [_size(case) for case in dataset.cases]
    if sum(sizes) <= ALONE:
        for done, case in enumerate(dataset.cases, 1):
            yield examine(case, known)
            progress(done)
        return
    largest_first = [case for _, case in sorted(zip(sizes, dataset.cases, strict=True), key=lambda pair: -pair[0])]
    pool = _processes(PROCESSES)
    jobs = {pool.submit(examine, case, known): case for case in largest_first}
    left, done = [], 0
    try:
        for job in as_completed(jobs):
            try:
                yield job.result()
            except BrokenProcessPool:  # raised for all unfinished cases when one process is killed
                left.append(jobs[job])
                continue
            progress(done := done + 1)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    for found in _one_by_one(left, known):
        yield found
        progress(done := done + 1)


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_serve)


def _serve() -> None:
    """Leave Ctrl-C to the parent process, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _one_by_one(cases: Sequence[Case], known: Sequence[int]) -> Iterator[Examined]:
    """Examine each case in its own process, so that a killed process identifies its case."""
    pool = _processes(1)
    try:
        for case in cases:
            try:
                found = pool.submit(examine, case, known).result()
            except BrokenProcessPool:
                what = "reading a case must fit into memory, got a killed process"
                found = Examined(case, (Fault(case.name, f"{what}; free some, or make the case smaller"),), None)
                pool = _processes(1)
            yield found
    finally:
        pool.shutdown(cancel_futures=True)


def _size(case: Case) -> int:
    try:
        return sum(part.stat().st_size for path in (*case.images, case.label) for part in files_of_image(path))
    except OSError:  # reading it gives the error
        return 0
