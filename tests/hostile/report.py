"""What `crash` and `load` found wrong, and how they print it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

out = Console(highlight=False, width=160)


@dataclass(frozen=True)
class Fault:
    """Something wrong."""

    kind: str  # in general words: what `known.py` lists
    detail: str  # where it was seen


def show(command: str, counts: Mapping[str, Mapping[str, object]], faults: Sequence[Fault]) -> int:
    """Print a row per trial, then the faults by kind; return the exit code.

    Args:
        command: whose faults these are.
        counts: trial -> what was done -> how often.
        faults: what was wrong.
    """
    table = Table("trial", "what was done")
    for trial, numbers in counts.items():
        table.add_row(trial, ", ".join(f"{value} {name}" for name, value in numbers.items()))
    out.print(table)
    kinds = defaultdict(list)
    for fault in faults:
        kinds[fault.kind].append(fault.detail)
    for kind, details in kinds.items():
        out.print(f"{len(details)} x {kind}", style="bold", soft_wrap=True)
        for detail in details[:3]:
            out.print(f"    {' '.join(detail.split())[:400]}", markup=False, soft_wrap=True)
    out.print(f"{command}: {len(faults)} faults of {len(kinds)} kinds")
    return int(bool(faults))
