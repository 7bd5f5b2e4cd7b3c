"""The figures in metadata and model cards are those that weights reach on cases that they were never trained on.

For the hippocampus these are the weights of fold 0, trained as the shipped ones were, which have seen all cases.
"""

import csv
import json
import re
import statistics
from collections import Counter

import pytest
import torch
from helpers import BUNDLE, ROOT
from helpers.commands import run
from monai.bundle import ConfigParser

from benchmarks.fold import fold_cases
from unetpp_monai import Segmenter, pack, read_volume
from unetpp_monai.bundle import load_network
from unetpp_monai.workflows.metrics import mean_dice

pytestmark = pytest.mark.slow

METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
CARD = (BUNDLE / "docs" / "README.md").read_text()
README, EVALUATION = ((ROOT / name).read_text() for name in ("README.md", "docs/evaluate.md"))


@pytest.mark.parametrize("depth", ["1", "2", "3"])
def test_dice_on_the_validation_fold(shared_data, tmp_path, depth):
    configs = f"['{BUNDLE}/configs/train.json','{BUNDLE}/configs/evaluate.json']"
    data = shared_data / "Task04_Hippocampus"
    arguments = ("--config_file", configs, "--bundle_root", BUNDLE, "--dataset_dir", data, "--depth", depth)
    weights = ("--ckpt_dir", ROOT / "benchmarks" / "fold0")
    run(*arguments, *weights, "--output_dir", tmp_path, "--device", "cpu", folder=tmp_path)
    with (tmp_path / "val_mean_dice_raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42
    anterior, posterior = (statistics.mean(float(row[name]) for row in rows) for name in ("class0", "class1"))
    stated = METADATA["depths"][depth]
    assert anterior == pytest.approx(stated["Dice anterior"], abs=6e-4)
    assert posterior == pytest.approx(stated["Dice posterior"], abs=6e-4)
    if depth == "3":
        mean = (anterior + posterior) / 2
        assert mean >= 0.88
        assert mean == pytest.approx(METADATA["eval_metrics"]["val_mean_dice"], abs=6e-4)


def test_auto_depth_loses_no_more_than_is_said(shared_data):
    """On the fold that the thresholds were chosen on; the card states what they lose on cases they were not."""
    weights = ROOT / "benchmarks" / "fold0" / "model.pt"
    segmenter = Segmenter.from_bundle(BUNDLE, weights=weights, device="cpu", runtime="eager")
    dice, windows = [], Counter()
    for case in fold_cases(0, str(shared_data / "Task04_Hippocampus")):
        result, reference = segmenter(read_volume(case["image"]), depth="auto"), read_volume(case["label"], labels=True)
        dice.append([mean_dice(result.labels.array, reference.array, [label]) for label in (1, 2)])
        windows.update(result.windows)
    anterior, posterior = (statistics.mean(column) for column in zip(*dice, strict=True))
    stated = METADATA["depths"]["auto"]
    assert anterior == pytest.approx(stated["Dice anterior"], abs=6e-4)
    assert posterior == pytest.approx(stated["Dice posterior"], abs=6e-4)
    assert (anterior + posterior) / 2 >= METADATA["eval_metrics"]["val_mean_dice"] - 0.0015
    assert sum(windows.values()) == 246 and windows[2] > 123


def test_nuclei_iou_on_full_size_pictures(shared_data, tmp_path):
    folder, data = ROOT / "configs" / "nuclei_2d", shared_data / "DSB2018"
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / "train.json"), str(folder / "task.json")])
    parser["dataset_dir"] = str(data)
    segmenter = Segmenter.from_bundle(pack(tmp_path, task=folder).folder, device="cpu")
    ious = []
    for case in parser.get_parsed_content("folds")[0]:
        labels = segmenter(read_volume(case["image"])).labels.array > 0
        reference = read_volume(case["label"]).array > 0
        ious.append((labels & reference).sum() / (labels | reference).sum())
    stated = json.loads((folder / "metadata.json").read_text())["depths"]["4"]
    assert len(ious) == 107
    assert statistics.mean(ious) == pytest.approx(stated["IoU"], abs=6e-4)
    card = (folder / "docs" / "README.md").read_text()
    bundle = segmenter.bundle
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    assert f"| 4 | {sum(p.numel() for p in network.parameters()):,} | {stated['IoU']:.3f} |" in card


@pytest.mark.parametrize("document", [CARD, README, EVALUATION], ids=["card", "readme", "evaluation"])
def test_documents_state_the_metadatas_figures(document):
    rows = re.findall(
        r"^\| (\d|auto) \| (?:[\d,]+|as needed) \| (0\.\d+) \| (0\.\d+) \| ([01]\.\d+) \|$", document, re.MULTILINE
    )
    stated = [
        (
            depth,
            *(
                f"{row[name]:.{digits}f}"
                for name, digits in (("Dice anterior", 3), ("Dice posterior", 3), ("relative time", 2))
            ),
        )
        for depth, row in METADATA["depths"].items()
    ]
    assert rows == stated and len(rows) == 4


def test_card_has_the_zoos_headings():
    for heading in (
        "Authors",
        "Tags",
        "Model Description",
        "Data",
        "Preprocessing",
        "Performance",
        "System Configuration",
    ):
        assert re.search(rf"^#+ \**{heading}\**$", CARD, re.MULTILINE), heading
    for heading in ("Additional Usage Steps", "Limitations", "Citation Info", "References"):
        assert re.search(rf"^#+ \**{heading}\**$", CARD, re.MULTILINE), heading
