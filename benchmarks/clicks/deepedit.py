"""MONAI's DeepEdit on the same cases: `python -m benchmarks.clicks.deepedit DATASET --minutes M -o deepedit.pt`.

Network (DynUNet), simulated clicks and guidance are MONAI's, put together as its documentation does for several labels;
cases, grid, patches and augmentation are the task's. Needs scikit-image. `benchmarks.clicks --deepedit deepedit.pt`
lets it be corrected beside ours.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.apps.deepedit.interaction import Interaction
from monai.apps.deepedit.transforms import (
    AddGuidanceSignalDeepEditd,
    AddInitialSeedPointMissingLabelsd,
    AddRandomGuidanceDeepEditd,
    FindAllValidSlicesMissingLabelsd,
    FindDiscrepancyRegionsDeepEditd,
)
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import Activationsd, AsDiscreted, Compose, ToNumpyd, ToTensord

from unetpp_monai import Segmenter
from unetpp_monai.bundle.configs import CONFIG
from unetpp_monai.inference import Windows
from unetpp_monai.interactive import Point, Prompt
from unetpp_monai.networks.options import per_level
from unetpp_monai.task import BASE, VALUES, find_task

from .robot import Case, Corrector, Labels

SIGMA, ROUNDS, RATE = 3, 15, 1e-4  # of a click's Gaussian (voxels), most clicks a step, learning rate: MONAI's
ENDLESS = 10**6  # epochs; the clock ends it


def main() -> None:
    """Train for minutes, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--task", default="hippocampus_interactive")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: of one thread's processor time")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    config = config_of(options.dataset, options.task, options.fold)
    names = names_of(int(config["out_channels"]))
    cases = config.get_parsed_content("train#dataset")
    network = network_of(config, len(names))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=ENDLESS,
        train_data_loader=DataLoader(Dataset(cases, Compose(guided(names))), batch_size=1, shuffle=True),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), RATE),
        loss_function=DiceCELoss(to_onehot_y=True, softmax=True),
        inferer=SimpleInferer(),
        iteration_update=Interaction(0.5, clicked(), train=True, label_names=names, max_interactions=ROUNDS),
    )
    clock = {"wall": time.monotonic, "cpu": time.process_time}[options.clock]
    end = clock() + 60 * options.minutes
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.terminate() if clock() > end else None)
    trainer.run()
    torch.save(network.state_dict(), options.output)
    print(f"{trainer.state.iteration} steps")


def config_of(dataset: str, task: str, fold: int) -> ConfigParser:
    """The training of a task, of which only the cases are used."""
    folder = find_task(task)
    config = ConfigParser()
    config.read_config([str(BASE / "train.json"), str(folder / VALUES)])
    config["dataset_dir"], config["fold"] = dataset, fold
    if listed := config["cases_file"]:
        config["cases_file"] = str(folder / listed)
    return config


def names_of(channels: int) -> dict[str, int]:
    """Labels as DeepEdit names them; it treats the background by its name."""
    return {**{f"label {index}": index for index in range(1, channels)}, "background": 0}


def network_of(config: ConfigParser | Mapping[str, Any], labels: int) -> DynUNet:
    """DynUNet as MONAI Label's DeepEdit has it, with the levels, strides and kernels of the task's network."""
    levels = len(config["features"])
    strides = [1, *per_level("strides", config["strides"], 3, levels - 1)]
    kernels = per_level("kernel_size", config["kernel_size"], 3, levels)
    channels = int(config["in_channels"]) + labels
    return DynUNet(3, channels, labels, kernels, strides, strides[1:], norm_name="instance", res_block=True)


def guided(names: Mapping[str, int]) -> list[Any]:
    """What an item gets before its first step: clicks anywhere in its labels."""
    return [
        lambda item: {**item, "label_names": dict(names)},
        ToNumpyd(keys=("image", "label")),
        FindAllValidSlicesMissingLabelsd(keys="label", sids="sids"),
        AddInitialSeedPointMissingLabelsd(keys="label", guidance="guidance", sids="sids"),
        AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", sigma=SIGMA),
        ToTensord(keys=("image", "label")),
    ]


def clicked() -> list[Any]:
    """What an item gets after each look at the prediction: clicks where it is wrong."""
    return [
        Activationsd(keys="pred", softmax=True),
        AsDiscreted(keys="pred", argmax=True),
        ToNumpyd(keys=("image", "label", "pred")),
        FindDiscrepancyRegionsDeepEditd(keys="label", pred="pred", discrepancy="discrepancy"),
        AddRandomGuidanceDeepEditd(
            keys="NA", guidance="guidance", discrepancy="discrepancy", probability="probability"
        ),
        AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", sigma=SIGMA),
        in_text,
        ToTensord(keys=("image", "label")),
    ]


def in_text(item: Mapping[str, Any]) -> dict[str, Any]:
    """Clicks as JSON, as they were at first: lists of no click would not survive the collation between two looks."""
    points = {name: json.dumps([list(map(int, point)) for point in found]) for name, found in item["guidance"].items()}
    return {**item, "guidance": points}


class DeepEdit(Corrector):
    """DeepEdit on the grid, in the windows and with the postprocessing of our segmenter; planes obey its clicks too.

    Args:
        segmenter: that prepares images and brings labels back to them.
        weights: of `main`.
    """

    def __init__(self, segmenter: Segmenter, weights: Path) -> None:
        self.segmenter = segmenter
        self.names = names_of(1 + len(segmenter.bundle.labels))
        network = network_of(segmenter.bundle.configs[CONFIG], len(self.names))
        network.load_state_dict(torch.load(weights, weights_only=True))
        self.network = network.eval()

    def begin(self, case: Case) -> Labels:
        """Prepare the image, and segment it."""
        self.prepared = self.segmenter.prepare(case.image)
        self.points: dict[str, list[list[int]]] = {name: [] for name in self.names}
        self.marks: dict[int, list[Sequence[float]]] = {}
        return self._labels()

    def add(self, prompt: Prompt) -> Labels:
        """Segment with one click more."""
        assert isinstance(prompt, Point)
        grid = self.prepared.data["image"]
        voxel = np.rint(np.linalg.inv(grid.affine.numpy()) @ [*prompt.position, 1])[:3].astype(int)
        name = next(name for name, index in self.names.items() if index == prompt.label)
        self.points[name].append([0, *voxel.tolist()])
        self.marks.setdefault(int(prompt.label), []).append(prompt.position)
        return self._labels()

    def _labels(self) -> Labels:
        image = np.asarray(self.prepared.data["image"].as_tensor())
        signal = AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", sigma=SIGMA)
        found = signal({"image": image, "guidance": self.points})["image"][len(image) :]
        prompts = torch.as_tensor(np.asarray(found, np.float32))
        marks = {index: torch.tensor(positions) for index, positions in self.marks.items()}
        volume = self.segmenter.replay(
            self.prepared, lambda windows: Windows(self.network(windows).float()), prompts=prompts, marks=marks
        )
        return volume.array[0]


if __name__ == "__main__":
    main()
