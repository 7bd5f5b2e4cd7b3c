"""Train the locator on synthesised heads: `python -m benchmarks.locator.train MAPS -o OUT [--steps 4000]`.

Goes on where it stopped. What is drawn for a step follows from the step's number alone.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from monai.losses import DeepSupervisionLoss, DiceLoss
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.locator.heads import CLASSES, HELD_OUT, Synthesis, read_maps
from unetpp_monai.networks import UNetPlusPlus

FEATURES = (8, 16, 32, 64)
HEADS = (0.6, 0.25, 0.15)
RARE = (
    40.0,
    4.0,
)  # weight of a hippocampus' voxels in the cross entropy: at first, as they are one in a thousand; then
EARLY = 0.47  # share of the steps with the first
WINDOW = 64  # voxels per axis
EVERY = 100  # steps between checkpoints


class Windows(Dataset):
    """One window of one head for each step."""

    def __init__(self, synthesis: Synthesis, steps: int) -> None:
        self.synthesis, self.steps = synthesis, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return cut(*self.synthesis(step), step)


class Loss(torch.nn.Module):
    """Dice and cross entropy, in which a hippocampus counts more than its few voxels would."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(to_onehot_y=True, softmax=True, include_background=False)
        self.entropy = torch.nn.CrossEntropyLoss(weight=torch.ones(len(CLASSES)))

    def forward(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Compare logits `(1, C, X, Y, Z)` with classes `(1, 1, X, Y, Z)`."""
        found: torch.Tensor = self.dice(logits, classes) + self.entropy(logits, classes[:, 0].long())
        return found


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--initial_weights", type=Path, help="of a locator, to begin with")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    maps = read_maps(options.maps, [number for number in range(1, 21) if number not in HELD_OUT])
    synthesis = Synthesis(maps, options.output / "deformed")
    network = UNetPlusPlus(3, 1, len(CLASSES), FEATURES)
    if options.initial_weights is not None:
        network.load_state_dict(torch.load(options.initial_weights, weights_only=True))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=options.steps, pct_start=0.05)
    compared = Loss()
    loss_of = DeepSupervisionLoss(compared, weights=list(HEADS))
    done, progress = 0, options.output / "progress.pt"
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        done = state["done"]
        for part, name in ((network, "network"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
    windows = Subset(Windows(synthesis, options.steps), range(done, options.steps))
    begin, losses = time.perf_counter(), []
    for step, (image, classes) in enumerate(DataLoader(windows, num_workers=1, prefetch_factor=4), done):
        compared.entropy.weight[CLASSES.index("hippocampus")] = RARE[step >= EARLY * options.steps]
        with torch.autocast("cpu", torch.bfloat16):
            heads = network(image)
        loss = loss_of([head.float() for head in heads], classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % EVERY == 0 or step + 1 == options.steps:
            seconds = (time.perf_counter() - begin) / len(losses)
            print(json.dumps({"step": step + 1, "loss": sum(losses) / len(losses), "seconds": seconds}), flush=True)
            begin, losses = time.perf_counter(), []
            parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
            state = {"done": step + 1, **{name: part.state_dict() for name, part in parts.items()}}
            torch.save(state, progress.with_suffix(".part"))
            progress.with_suffix(".part").replace(progress)
    torch.save(true_odds(network.state_dict()), options.output / "locator.pt")


def true_odds(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take back what the last weight of the hippocampi added to their logits, in every head."""
    for name in weights:
        if name.startswith("outputs.") and name.endswith(".bias"):
            weights[name][CLASSES.index("hippocampus")] -= math.log(RARE[-1])
    return weights


def cut(image: torch.Tensor, classes: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of an image and its classes `(1, X, Y, Z)`, drawn by the step."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(image.shape[1] - WINDOW + 1, (3,), generator=generator).tolist()
    place = (slice(None), *(slice(start, start + WINDOW) for start in starts))
    return image[place], classes[place]


if __name__ == "__main__":
    main()
