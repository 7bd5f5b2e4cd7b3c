"""nnU-Net's own programs with its own trainer, whose schedule ends within given minutes: `nnunet_program.py train ...`.

Runs where nnunetv2 is installed, without `unetpp_monai`. Set `MINUTES`, `THREADS`, and `CLOCK`: `wall`, or `cpu`, which
counts processor seconds of all its processes divided by the cores, so that other work on the machine does not count.
nnU-Net would look for a trainer by importing all that it has, some of which need a torchvision that fits.
"""

import json
import multiprocessing
import os
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import nnunetv2.inference.predict_from_raw_data as prediction
import nnunetv2.run.run_training as training
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

WARM, TIMED = 3, 20  # steps before the clock counts, and those that it counts
TIMED_VALIDATION = 4
SHARE = 0.97  # of the minutes; the rest is for checkpoints and what an epoch does beside its steps
MOST_EPOCHS = 1000  # of nnU-Net's own schedule


class nnUNetTrainerMinutes(nnUNetTrainer):  # noqa: N801 - named as nnU-Net names its own
    """Epochs of 50 steps instead of 250, as many as end within the minutes; all else as nnU-Net has it."""

    def __init__(  # nnU-Net notes its arguments by these names
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 50, 5
        self.save_every = 5

    def on_train_start(self) -> None:
        """Count how long steps take, once, and set the length of the schedule by it."""
        super().on_train_start()
        noted = Path(self.output_folder) / "minutes.json"
        if not noted.is_file():
            noted.write_text(json.dumps(self._measured(), indent=1) + "\n")
        self.num_epochs = json.loads(noted.read_text())["epochs"]
        self.lr_scheduler = PolyLRScheduler(self.optimizer, self.initial_lr, self.num_epochs)
        self.print_to_log_file(noted.read_text())

    def _measured(self) -> dict[str, float]:
        start = deepcopy((self.network.state_dict(), self.optimizer.state_dict()))
        for _ in range(WARM):
            self.train_step(next(self.dataloader_train))
        begin = clock()
        for _ in range(TIMED):
            self.train_step(next(self.dataloader_train))
        step = (clock() - begin) / TIMED
        begin = clock()
        with torch.no_grad():
            for _ in range(TIMED_VALIDATION):
                self.validation_step(next(self.dataloader_val))
        validation = (clock() - begin) / TIMED_VALIDATION
        self.network.load_state_dict(start[0])
        self.optimizer.load_state_dict(start[1])
        seconds = float(os.environ["MINUTES"]) * 60 * SHARE - (WARM + TIMED) * step - TIMED_VALIDATION * validation
        epoch = self.num_iterations_per_epoch * step + self.num_val_iterations_per_epoch * validation
        epochs = min(MOST_EPOCHS, max(1, int(seconds / epoch)))
        return {"step": step, "validation": validation, "epochs": epochs, "steps": epochs * 50}


def clock() -> float:
    """Seconds of the clock that is asked for."""
    if os.environ.get("CLOCK", "wall") == "wall":
        return time.perf_counter()
    return sum(map(_used, [os.getpid(), *(child.pid for child in multiprocessing.active_children())])) / os.cpu_count()


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["THREADS"]))
    torch.set_num_threads = lambda number: None  # nnU-Net would take as many as there are cores
    for module in (training, prediction):
        module.recursive_find_trainer_class_by_name = lambda name: nnUNetTrainerMinutes
    program = {"train": training.run_training_entry, "predict": prediction.predict_entry_point}[sys.argv.pop(1)]
    program()
