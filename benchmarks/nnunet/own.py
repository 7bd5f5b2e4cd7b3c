"""Train as `unetpp train` does, for minutes of another clock: `own.py TASK FOLDER FOLD MINUTES`.

`CLOCK` and `THREADS` as for `nnunet_program.py`, so that both count alike.
"""

import os
import sys
import time
from pathlib import Path

import torch

from unetpp_monai.workflows.train import train


def main() -> None:
    """Train; the clock of this process is what is asked for."""
    task, folder, fold, minutes = sys.argv[1:]
    torch.set_num_threads(int(os.environ["THREADS"]))
    if os.environ.get("CLOCK", "wall") == "cpu":
        time.perf_counter = lambda: time.process_time() / (os.cpu_count() or 1)  # type: ignore[assignment]
    train(Path(task), fold=int(fold), output_dir=Path(folder), time=float(minutes) * 60)


if __name__ == "__main__":
    main()
