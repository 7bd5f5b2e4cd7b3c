"""End a training early: on a loss that is not finite, and on signals."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from ..errors import InputError, StoppedError
from .cases import names_of
from .progress import ProgressSaver, within_epoch


class FiniteLoss:
    """End a training when its loss is not finite, before the weights change; the error names the cases."""

    def attach(self, engine: Any) -> None:
        """Check every loss of a trainer."""
        from monai.engines import IterationEvents

        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Check the loss of this step.

        Raises:
            InputError: it is not finite.
        """
        loss = engine.state.output["loss"]
        if not torch.isfinite(loss):
            names = ", ".join(names_of(engine.state.batch)) or "unnamed"
            raise InputError(
                f"a loss must be finite, got {loss.item()} in step {engine.state.iteration} with the cases {names}; "
                "look at their images and labels, or lower learning_rate"
            )


class Stop:
    """End a training on a signal: after a step, with its progress saved."""

    def __init__(self) -> None:
        self.signal = 0  # 0: no signal yet

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGTERM and the first SIGINT; a second SIGINT ends at once. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def attach(self, trainer: Any, evaluator: Any, saver: ProgressSaver | None) -> None:
        """Check after each step and epoch of a trainer, and after each case of an evaluator, if any."""
        from ignite.engine import Events

        def step(engine: Any) -> None:
            if within_epoch(engine):
                save(engine)

        def save(engine: Any) -> None:
            if self.signal and saver is not None:
                saver.save(engine)
            self.check()

        trainer.add_event_handler(Events.ITERATION_COMPLETED, step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, save)
        if evaluator is not None:
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: self.check())

    def check(self) -> None:
        """End if a signal was received.

        Raises:
            StoppedError: a signal was received.
        """
        if self.signal:
            raise StoppedError("stopped; run the same command to resume", signal=self.signal)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
