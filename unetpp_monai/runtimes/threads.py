"""How many threads a process computes with, where several share the cores of a machine."""

import torch

_limit: list[int] = []  # empty: none, each library takes what it finds


def limit_threads(count: int) -> None:
    """Let this process compute with so many threads at most, PyTorch at once, graphs compiled later.

    Args:
        count: at least 1.
    """
    _limit[:] = [count]
    torch.set_num_threads(count)


def thread_limit() -> int | None:
    """How many threads this process may compute with; None: as many as there are."""
    return _limit[0] if _limit else None
