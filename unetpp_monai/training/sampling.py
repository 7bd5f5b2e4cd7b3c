"""Draw the cases and the random seeds of each step from (seed, fold, step) only."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

SEEDS = 1 << 32  # number of seeds


@dataclass(frozen=True)
class Draw:
    """One case of a batch."""

    case: int  # its index
    seed: int  # of its random transforms


class CaseSampler(torch.utils.data.Sampler[Draw]):
    """Draw the cases of each step; training can resume within an epoch with the same draws.

    Args:
        cases: to draw from, at least one.
        batch_size: cases of a step (of each process).
        steps_per_epoch: draw this many with replacement; 0: every case once, shuffled each epoch.
        seed: of the run.
        fold: of the run.
        rank: of this process among `world_size`.
        world_size: number of processes.
    """

    def __init__(
        self,
        cases: Sized,
        *,
        batch_size: int,
        steps_per_epoch: int = 0,
        seed: int = 0,
        fold: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.count, self.batch_size, self.replacement = len(cases), batch_size, steps_per_epoch > 0
        self.seed, self.fold, self.rank, self.world_size = seed, fold, rank, world_size
        self.length = steps_per_epoch * batch_size if self.replacement else -(-self.count // world_size)
        self._engine: Any = None
        self._passes = 0  # started, without an engine that counts steps

    def attach(self, engine: Any) -> None:
        """Follow the steps of a trainer, and seed each of them."""
        from ignite.engine import Events

        self._engine = engine
        engine.add_event_handler(Events.ITERATION_STARTED, self._seed_step)

    def __len__(self) -> int:
        """Return the draws per epoch."""
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws from the next step to the end of its epoch."""
        steps = -(-self.length // self.batch_size)
        step = self._passes * steps if self._engine is None else self._engine.state.iteration
        self._passes += 1
        number, begun = divmod(step, steps)
        yield from self._draws(number)[begun * self.batch_size :]

    def _draws(self, number: int) -> list[Draw]:
        """Return the draws of epoch `number` (0, 1, ...) for this process."""
        rng = np.random.default_rng((self.seed, self.fold, number))
        total = self.length * self.world_size
        places = rng.integers(self.count, size=total) if self.replacement else rng.permutation(self.count)
        places = np.resize(places, total)  # as many for each process
        seeds = rng.integers(SEEDS, size=total)
        return [Draw(int(place), int(seed)) for place, seed in zip(places, seeds, strict=True)][
            self.rank :: self.world_size
        ]

    def _seed_step(self, engine: Any) -> None:
        state = np.random.SeedSequence((self.seed, self.fold, engine.state.iteration, self.rank)).generate_state(1)
        torch.manual_seed(int(state[0]))
