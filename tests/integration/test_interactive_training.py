"""A planned interactive task: what is written, how it is trained, and that its bundle is automatic too."""

import json

import numpy as np
import pytest
import torch
from helpers import phantom, save_nifti
from helpers.interactive import FIRST, interactive_bundle
from helpers.own_task import bundle_of, make_own_task
from helpers.planned_tasks import plan, thick_slices, values_of
from helpers.tiny import make_tiny

from unetpp_monai import Segmenter, Volume, read_volume
from unetpp_monai.annotation.fine_tuning import Options, fine_tune
from unetpp_monai.annotation.training_cases import Labelled
from unetpp_monai.interactive import Point
from unetpp_monai.task import TRAINED, check_task
from unetpp_monai.workflows.train import train


def test_a_plan_can_be_interactive(tmp_path):
    data = thick_slices(tmp_path / "data")
    plan(data, "-o", tmp_path / "plain", "--modality", "mr,ct", "--memory", "2GiB")
    plan(data, "-o", tmp_path / "task", "--modality", "mr,ct", "--memory", "2GiB", "--interactive")
    values, plain = values_of(tmp_path / "task"), values_of(tmp_path / "plain")
    assert values["prompt_labels"] == [0, 1, 2] and values["prompt_radius"] == pytest.approx(1.5 * 0.7)
    assert values["prompt_reach"] == pytest.approx(3.3 * 1.5 * 0.7)
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


@pytest.mark.slow
def test_what_annotators_correct_is_learned_from_with_prompts(tmp_path):
    root = make_tiny(interactive_bundle(tmp_path / "served"))
    served = torch.load(root / "models" / "model.pt", weights_only=True)
    cases = []
    for seed in range(8):
        image, labels = phantom(seed=seed)
        paths = [tmp_path / f"{kind}_{seed}.nii.gz" for kind in ("image", "label")]
        cases.append(Labelled(f"case_{seed}", save_nifti(paths[0], image), save_nifti(paths[1], labels), {}))
    options = Options(max_epochs=2, learning_rate=0.01, val_split=0.2, device="cpu")
    version = fine_tune(root, cases, options)
    kernels = torch.load(version.weights, weights_only=True)[FIRST]
    assert (kernels[:, 1:] != served[FIRST][:, 1:]).flatten(2).any(2).all()  # of every prompt's channel
    volume = read_volume(cases[0].image)
    session = Segmenter.from_bundle(root, device="cpu", runtime="eager").session(volume)
    without = session.labels("full").array
    session.add(Point(session.position((18, 25, 18)), "posterior hippocampus"))
    assert (session.labels("full").array != without).any()
