"""Report a training: a log line and a row per epoch, a curve, and the remaining time."""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import complete_file
from .curve import curve_svg
from .scores import HeadsDice

SCHEMA = 1  # version of history.json
HISTORY, CURVE = "history.json", "history.svg"
WARM, TIMED = 2, 10  # untimed first steps of a process, and timed steps before a first estimate
RECENT = 200  # steps used to estimate the remaining time

logger = logging.getLogger(__name__)


class History:
    """Record a training, log its progress, and estimate its remaining time.

    Args:
        save_dir: folder for `history.json` and `history.svg`.
        optimizer: its learning rate is recorded.
        dice: metric of the evaluator.
        max_epochs: epochs of the whole training.
        val_interval: epochs between validations.

    Attributes:
        speaks: whether to log and write files.
        labels: names of label 1, 2, ...; may be set.
        validation_seconds: of the last validation, or the expected time; None: unknown.
    """

    def __init__(
        self, save_dir: str | Path, optimizer: Any, dice: HeadsDice, *, max_epochs: int, val_interval: int
    ) -> None:
        self.folder, self.optimizer, self.dice = Path(save_dir), optimizer, dice
        self.max_epochs, self.val_interval = max_epochs, val_interval
        self.labels = [str(index) for index in range(1, dice.out_channels)]
        self.validation_seconds: float | None = None
        self.speaks = True
        self.rows: list[dict[str, Any]] = []
        self._losses: list[float] = []  # of the current epoch
        self._seconds = 0.0  # of it
        self._rate = 0.0
        self._validated = False
        self._begun = self._validation_begun = 0.0
        self._steps = 0  # of this process
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._evaluator: Any = None

    def attach(self, trainer: Any, evaluator: Any = None) -> None:
        """Record a trainer and its evaluator, if any."""
        from ignite.engine import Events

        self._evaluator = evaluator
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._step_begins)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        if evaluator is not None:
            evaluator.add_event_handler(Events.STARTED, self._validation_begins)
            evaluator.add_event_handler(Events.COMPLETED, self._validation)

    def state_dict(self) -> dict[str, Any]:
        """Return the record for a checkpoint."""
        return {"rows": list(self.rows), "losses": list(self._losses), "seconds": self._seconds}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.rows, self._losses = list(state_dict["rows"]), list(state_dict["losses"])
        self._seconds = state_dict["seconds"]

    @property
    def used(self) -> float:
        """Seconds of all steps and validations, including previous processes."""
        return float(self._seconds + sum(row["seconds"] + row.get("validation_seconds", 0.0) for row in self.rows))

    @property
    def step_seconds(self) -> float | None:
        """Mean seconds of recent steps; None until one was timed."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def left(self, trainer: Any) -> float | None:
        """Return the remaining seconds of the steps and of the validations between them; None until both were timed.

        The validation on whole images that `workflows.train` does afterwards is not counted.
        """
        step, validation = self.step_seconds, 0.0 if self._evaluator is None else self.validation_seconds
        if step is None or validation is None:
            return None
        steps = self.max_epochs * trainer.state.epoch_length - trainer.state.iteration
        validations = self.max_epochs // self.val_interval - len(self.rows) // self.val_interval
        return float(steps * step + validations * validation)

    def _step_begins(self, _: Any) -> None:
        self._begun = time.perf_counter()

    def _step(self, trainer: Any) -> None:
        seconds = time.perf_counter() - self._begun
        self._steps += 1
        self._seconds += seconds
        self._rate = float(self.optimizer.param_groups[0]["lr"])
        output = trainer.state.output
        self._losses.append(float((output[0] if isinstance(output, list) else output)["loss"]))
        if self._steps > WARM:
            self._recent.append(seconds)
        if self._steps == WARM + TIMED:
            if self._evaluator is not None and self.validation_seconds is None:
                self.validation_seconds = case_seconds(self._evaluator) * len(self._evaluator.data_loader.dataset)
            about = f"{self.step_seconds:.2g} s per step"
            if self._evaluator is not None:
                about += f", {self.validation_seconds:.2g} s per validation"
            if self.speaks and trainer.state.rank == 0:
                logger.info("%s after %d steps: %s", _left(self.left(trainer)), TIMED, about)

    def _validation_begins(self, _: Any) -> None:
        self._validation_begun = time.perf_counter()

    def _validation(self, _: Any) -> None:
        self._validated = True
        self.validation_seconds = time.perf_counter() - self._validation_begun

    def _epoch(self, trainer: Any) -> None:
        row: dict[str, Any] = {
            "epoch": trainer.state.epoch,
            "loss": sum(self._losses) / max(len(self._losses), 1),
            "learning_rate": self._rate,
            "seconds": round(self._seconds, 3),
        }
        if self._validated:
            row["validation_seconds"] = round(self.validation_seconds or 0.0, 3)
            row["dice_per_depth"] = self.dice.depths
            row["dice_per_label"] = [None if math.isnan(dice) else dice for dice in self.dice.labels]
            row["dice"] = float(self._evaluator.state.metrics[self._evaluator.state.key_metric_name])
        self.rows.append(row)
        self._losses, self._seconds, self._validated = [], 0.0, False
        if self.speaks and trainer.state.rank == 0:
            logger.info("%s", self._line(row, trainer))
            self._write()

    def _line(self, row: Mapping[str, Any], trainer: Any) -> str:
        parts = [f"{row['epoch']}/{self.max_epochs}", f"loss {row['loss']:.3f}"]
        if "dice" in row:
            heads = " ".join(f"d{depth} {_short(dice)}" for depth, dice in enumerate(row["dice_per_depth"], 1))
            labels = " ".join(
                f"{name} {_short(dice)}" for name, dice in zip(self.labels, row["dice_per_label"], strict=True)
            )
            parts.append(f"Dice {heads} | {labels}")
        parts.append(f"{row['seconds'] + row.get('validation_seconds', 0.0):.1f} s")
        parts.append(_left(self.left(trainer)))
        if scored := [one for one in self.rows if "dice" in one]:
            best = max(scored, key=lambda one: one["dice"])
            parts.append(f"best {_short(best['dice'], 3)} (epoch {best['epoch']})")
        return "  ".join(part for part in parts if part)

    def _write(self) -> None:
        content = {"schema": SCHEMA, "labels": self.labels, "max_epochs": self.max_epochs, "epochs": self.rows}
        with complete_file(self.folder / HISTORY) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        with complete_file(self.folder / CURVE) as temporary:
            temporary.write_text(curve_svg(self.rows, self.max_epochs))


def case_seconds(evaluator: Any) -> float:
    """Time one case of an evaluator, and return the mean time per case, scaled by voxels; draws nothing random."""
    cases = evaluator.data_loader.dataset
    image = cases[0]["image"][None].to(evaluator.state.device)
    was_training = evaluator.network.training
    evaluator.network.eval()
    for _ in range(2 if image.is_cuda else 1):  # GPU libraries choose kernels in the first pass
        start = time.perf_counter()
        with torch.no_grad():
            float(evaluator.inferer(image, evaluator.network).sum())  # waits for a GPU
        seconds = time.perf_counter() - start
    evaluator.network.train(was_training)
    voxels = [math.prod(cases[index]["image"].shape) for index in range(len(cases))]
    return float(seconds * sum(voxels) / voxels[0] / len(voxels))


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"left {_duration(seconds)}"


def _duration(seconds: float) -> str:
    """Format a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _short(dice: float | None, digits: int = 2) -> str:
    """Format a Dice without its leading zero."""
    if dice is None:
        return "-"
    text = f"{dice:.{digits}f}"
    return text.removeprefix("0") if dice < 1 else text
