"""The figures in metadata and model card are those that the shipped weights reach on the validation fold."""

import csv
import json
import re
import statistics

import pytest
from conftest import BUNDLE, ROOT
from test_bundle import run

METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
CARD = (BUNDLE / "docs" / "README.md").read_text()


@pytest.mark.parametrize("depth", ["1", "2", "3"])
def test_dice_on_the_validation_fold(shared_data, tmp_path, depth):
    configs = f"['{BUNDLE}/configs/train.json','{BUNDLE}/configs/evaluate.json']"
    data = shared_data / "Task04_Hippocampus"
    arguments = ("--config_file", configs, "--bundle_root", BUNDLE, "--dataset_dir", data, "--depth", depth)
    run(*arguments, "--output_dir", tmp_path, "--device", "cpu", folder=tmp_path)
    with (tmp_path / "val_mean_dice_raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42
    anterior, posterior = (statistics.mean(float(row[name]) for row in rows) for name in ("class0", "class1"))
    stated = METADATA["depths"][depth]
    assert anterior == pytest.approx(stated["Dice anterior"], abs=6e-4)
    assert posterior == pytest.approx(stated["Dice posterior"], abs=6e-4)
    if depth == "3":
        mean = (anterior + posterior) / 2
        assert mean >= 0.875
        assert mean == pytest.approx(METADATA["eval_metrics"]["val_mean_dice"], abs=6e-4)


@pytest.mark.parametrize("document", [CARD, (ROOT / "README.md").read_text()], ids=["card", "readme"])
def test_documents_state_the_metadatas_figures(document):
    rows = re.findall(r"^\| (\d) \| [\d,]+ \| (0\.\d+) \| (0\.\d+) \| ([01]\.\d+) \|$", document, re.MULTILINE)
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
    assert rows == stated and len(rows) == 3


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
