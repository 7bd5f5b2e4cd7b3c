"""A planned interactive task: what is written, how it is trained, and that its bundle is automatic too."""

import json

import numpy as np
import pytest
import torch
from helpers import phantom
from helpers.own_task import bundle_of, make_own_task
from helpers.planned_tasks import plan, thick_slices, values_of

from unetpp_monai import Segmenter, Volume
from unetpp_monai.task import TRAINED, check_task
from unetpp_monai.workflows.train import train

FIRST = "nodes.x_0_0.block.conv_0.conv.weight"


def test_a_plan_can_be_interactive(tmp_path):
    data = thick_slices(tmp_path / "data")
    plan(data, "-o", tmp_path / "plain", "--modality", "mr,ct", "--memory", "2GiB")
    plan(data, "-o", tmp_path / "task", "--modality", "mr,ct", "--memory", "2GiB", "--interactive")
    values, plain = values_of(tmp_path / "task"), values_of(tmp_path / "plain")
    assert values["prompt_labels"] == [0, 1, 2] and values["prompt_radius"] == pytest.approx(1.5 * 0.7)
    assert not any("prompt" in key for key in plain)
    assert "| `prompt_labels` | `[0, 1, 2]` | every label" in (tmp_path / "task" / "plan.md").read_text()
    check_task(tmp_path / "task")


@pytest.mark.slow
def test_a_training_begins_with_automatic_weights_and_learns_prompts(tmp_path):
    task = make_own_task(tmp_path)
    automatic = train(task, fold=0, steps=2, device="cpu")
    values = json.loads((task / "task.json").read_text())
    values |= {"prompt_labels": [0, 1, 2], "prompt_radius": 1.0, "prompt_share": 1.0}
    (task / "task.json").write_text(json.dumps(values))
    output = task / "runs" / "prompted"
    options = {"fold": 0, "steps": 2, "device": "cpu", "output_dir": output}
    found = train(task, overrides={"initial_weights": str(automatic)}, **options)
    before, after = (torch.load(path, weights_only=True) for path in (automatic, found))
    kernels = after[FIRST]
    assert kernels.shape[1] == 4 and kernels[:, 1:].abs().sum((0, 2, 3, 4)).all()
    assert 0 < (kernels[:, :1] - before[FIRST]).abs().max() < 0.1
    last = torch.load(output / "progress_final.pt", weights_only=True)
    assert all(torch.equal(value, last["model"][name]) for name, value in after.items())  # not the best without prompts
    assert (output / TRAINED) == found and (output / "validation.json").is_file()
    segmenter = Segmenter(bundle_of(task, "prompted", tmp_path / "bundle"), device="cpu", runtime="eager")
    labels = segmenter(Volume(phantom((30, 30, 30))[0][None], np.eye(4))).labels
    assert labels.array.shape == (1, 30, 30, 30)
