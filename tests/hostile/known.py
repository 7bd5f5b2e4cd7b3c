"""Faults that are known and open. Each list must shrink: a slice fails as soon as one of them is no longer there.

Where a fault is mended, take its line out; where sound files or mutators change, numbers mean other mutants:
`python -m hostile.fuzz --count 100 --list` prints the kinds that are left as they stand here.
"""

# kind -> format and number of a mutant that shows it
FUZZ: dict[str, tuple[str, int]] = {}
FUZZ_LATE: dict[str, tuple[str, int]] = {}  # that only the whole `make fuzz` shows, or that take their time
# kind -> whether every slice shows it
CRASH: dict[str, bool] = {}
LOAD: dict[str, bool] = {}
