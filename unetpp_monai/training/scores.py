"""Compute the Dice of every depth and label in one validation pass."""

from typing import Any

import torch

from ..depth import Depth, DepthLike


class HeadsDice:
    """Mean Dice in validation: one depth is the metric, the others are reported.

    Labels missing in a case's reference are skipped, as in MONAI's `DiceMetric`. Depths are averaged over labels, then
    over cases; labels over cases.

    Args:
        out_channels: labels, including the background.
        depth: its mean is the metric; see `Depth.parse`.

    Attributes:
        depths: mean Dice of depth 1, 2, ... in the last pass.
        labels: mean Dice of label 1, 2, ... at the metric's depth; NaN if no case has it.
    """

    def __init__(self, out_channels: int, depth: DepthLike = None) -> None:
        self.out_channels, self.depth = out_channels, Depth.parse(depth).number
        self.depths: list[float] = []
        self.labels: list[float] = []
        self._tables: list[torch.Tensor] = []

    def attach(self, engine: Any, name: str) -> None:
        """Attach as metric to an evaluator with label maps `(depths, *spatial)` as "pred"."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._tables.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._state, name)

    def table(self, heads: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute the Dice `(depths, out_channels - 1)` of a case, float64.

        Args:
            heads: label maps `(depths, *spatial)`, integers.
            label: reference `(1, *spatial)`.
        """
        reference = label.flatten().long()
        sizes = self._counts(reference)
        rows = []
        for head in heads:
            found = head.flatten().long()
            both = self._counts(reference[reference == found])
            dice = 2 * both / (sizes + self._counts(found))
            rows.append(torch.where(sizes > 0, dice, torch.nan)[1:])
        return torch.stack(rows).cpu()

    def _counts(self, values: torch.Tensor) -> torch.Tensor:
        return torch.bincount(values, minlength=self.out_channels)[: self.out_channels].double()

    def _add(self, engine: Any) -> None:
        for item in engine.state.output:
            pred, label = (torch.as_tensor(item[key]) for key in ("pred", "label"))
            self._tables.append(self.table(pred, label))

    def _state(self, engine: Any, name: str) -> None:
        tables = torch.stack(_gathered(self._tables))  # (cases, depths, labels)
        self.depths = _mean(tables.nanmean(2)).tolist()
        at = len(self.depths) - 1 if self.depth is None else self.depth - 1
        self.labels = tables[:, at].nanmean(0).tolist()
        engine.state.metrics[name] = self.depths[at]


def _mean(of_cases: torch.Tensor) -> torch.Tensor:
    """Average over cases, `(cases, depths)` -> `(depths,)`; 0 if no case has a structure."""
    return of_cases.nanmean(0).nan_to_num(0)


def _gathered(tables: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gather the tables of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return tables
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, tables)
    return [table for share in shares for table in share]
