"""Save and resume the progress of a training."""

import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..files import complete_file

CHECKPOINTS = "progress_checkpoint_*.pt"
KEPT = 2  # newest checkpoints
SOONER = 0.25  # of the time between checkpoints, before a step that ends an epoch: a validation may follow it


class RunIdentity:
    """Identity of a training run: refuses a checkpoint of another fold, other cases or values.

    Args:
        values: must be equal to resume; by name, in JSON types.
    """

    def __init__(self, **values: Any) -> None:
        self.values = {name: _plain(value) for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the values for a checkpoint."""
        return dict(self.values)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compare with the values of a checkpoint.

        Raises:
            InputError: another run; the message lists the differences.
        """
        if differences := [name for name, value in self.values.items() if state_dict.get(name) != value]:
            said = ", ".join(
                f"{name} {_short(state_dict.get(name))} instead of {_short(self.values[name])}" for name in differences
            )
            raise InputError(
                f"progress must be of the same run, got {said}; choose another output_dir, or do not resume"
            )


class ProgressSaver:
    """Save a training's progress atomically, so that it can be killed at any time.

    A kill during a validation loses this validation and the step before it, besides at most a quarter of `seconds`: a
    checkpoint between the last step of an epoch and its end would skip the validation on resume, so the progress is
    saved before that step. The newest two checkpoints are kept.

    Args:
        save_dir: folder of the checkpoints.
        save_dict: objects with a `state_dict`, by name.
        seconds: between checkpoints, plus at most one step; 0: only after each epoch.
    """

    def __init__(self, save_dir: str | Path, save_dict: Mapping[str, Any], *, seconds: float = 0.0) -> None:
        self.folder, self.parts, self.seconds = Path(save_dir), dict(save_dict), seconds
        self._last = time.monotonic()

    def attach(self, engine: Any) -> None:
        """Attach to a trainer, after handlers that must run before saving."""
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def save(self, engine: Any) -> None:
        """Save now; not between the last step of an epoch and its end, which would be skipped on resume."""
        epoch, rest = divmod(engine.state.iteration, engine.state.epoch_length)
        self._write(f"progress_checkpoint_{f'step={engine.state.iteration}' if rest else f'epoch={epoch}'}.pt")
        for path in sorted(self.folder.glob(CHECKPOINTS), key=_age)[KEPT:]:
            path.unlink(missing_ok=True)
        self._last = time.monotonic()

    def _write(self, name: str) -> None:
        with complete_file(self.folder / name) as temporary:
            torch.save({key: _alone(part).state_dict() for key, part in self.parts.items()}, temporary)

    def _due(self, engine: Any) -> bool:
        next_ends = (engine.state.iteration + 1) % engine.state.epoch_length == 0
        return time.monotonic() - self._last >= self.seconds * (SOONER if next_ends else 1)

    def _step(self, engine: Any) -> None:
        if self.seconds and within_epoch(engine) and self._due(engine):
            self.save(engine)

    def _epoch(self, engine: Any) -> None:
        if self._due(engine):
            self.save(engine)

    def _end(self, engine: Any) -> None:
        if self.seconds:  # not yet due; more epochs may follow
            self.save(engine)
        self._write("progress_final.pt")


def within_epoch(engine: Any) -> bool:
    """Tell whether a trainer is before the last step of its epoch."""
    return bool(engine.state.iteration % engine.state.epoch_length)


def newest_progress(folder: str | Path) -> str:
    """Return the newest complete checkpoint of a training.

    Args:
        folder: with `progress_checkpoint_*.pt`; if it has none, the returned path does not exist.
    """
    found = sorted(Path(folder).glob(CHECKPOINTS), key=_age)
    return str(next(filter(zipfile.is_zipfile, found), Path(folder) / "progress_checkpoint"))


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."


def _age(path: Path) -> int:
    return -path.stat().st_mtime_ns


def _alone(part: Any) -> Any:
    """Unwrap a distributed network."""
    return part.module if isinstance(part, torch.nn.parallel.DistributedDataParallel) else part
