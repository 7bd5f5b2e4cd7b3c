"""Parts that a recipe under test adds to `train.json`; what wins moves into the package."""

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.losses import DeepSupervisionLoss
from torch import nn
from torch.nn.functional import kl_div, log_softmax


class WeightAverage:
    """Exponential moving average of the weights over steps, which takes their place when the training ends.

    Args:
        network: that is trained.
        decay: of a step, 0 ... 1; smaller in the first steps, as in (1 + n) / (10 + n).
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def attach(self, trainer: Engine) -> None:
        """Follow a trainer; before what saves its last weights."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    @torch.no_grad()
    def update(self, _engine: Engine) -> None:
        """Take a step in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)

    def finish(self, _engine: Engine) -> None:
        """Put the average in the place of the weights."""
        self.network.load_state_dict(self.state)

    def state_dict(self) -> dict[str, Any]:
        """Steps and weights, for a checkpoint."""
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps, self.state = state_dict["steps"], state_dict["state"]


class DistillationLoss(DeepSupervisionLoss):
    """Deep supervision in which every smaller depth also follows the deepest head's probabilities.

    Args:
        loss: of one head.
        weights: of the heads, deepest first.
        share: of the Kullback-Leibler divergence from the deepest head, beside each smaller head's own loss.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float], share: float = 0.5) -> None:
        super().__init__(loss, weights=list(weights))
        self.share = share

    def forward(self, input: Any, target: torch.Tensor) -> torch.Tensor:
        """Of the heads' logits `(B, C, *spatial)`, deepest first, and the labels `(B, 1, *spatial)`."""
        total: torch.Tensor = super().forward(input, target)
        if isinstance(input, torch.Tensor):
            return total
        teacher = log_softmax(input[0].detach(), 1)
        for weight, head in zip(self.weights[1:], input[1:], strict=True):
            divergence = kl_div(log_softmax(head, 1), teacher, log_target=True, reduction="none").sum(1).mean()
            total = total + self.share * weight * divergence
        return total


def torch_initialised(network: nn.Module) -> nn.Module:
    """Draw a network's weights as PyTorch does by default, instead of He-normal ones."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                module.reset_parameters()
    return network
