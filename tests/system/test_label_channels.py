"""A planned and packed bundle of two channels, served as it is: cases are listed once and learnt whole."""

import json
import shutil

import numpy as np
import pytest
from helpers.label_server import label_python, serving
from helpers.learning import ask, idle, model_of
from helpers.planned_tasks import plan, thick_slices, untrained, values_of

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.annotation.scores import read_scores
from unetpp_monai.io import read_case
from unetpp_monai.workflows.pack import pack

pytestmark = pytest.mark.server

PATCH = {"patch_size": [32, 32, 8], "roi_size": [32, 32, 8], "steps_per_epoch": 2, "features": [4, 8, 8]}
PATCH |= {"strides": [[2, 2, 1], [2, 2, 2]], "kernel_size": [[3, 3, 1], 3, 3], "head_weights": [0.5, 0.5]}


def test_channels_in_files_of_their_own_are_one_case(tmp_path):
    label_python()
    dataset = thick_slices(tmp_path / "data", count=4, rare=(0, 1, 2, 3))
    plan(dataset, "-o", tmp_path / "task", "--memory", "1GiB")
    (tmp_path / "task" / "task.json").write_text(json.dumps(values_of(tmp_path / "task") | PATCH))
    bundle = pack(tmp_path / "dist", task=untrained(tmp_path / "task")).folder
    shutil.copytree(dataset / "imagesTr", tmp_path / "studies")
    cases = [f"p{at // 2}_{at:02d}_0000" for at in range(4)]
    with serving(tmp_path / "studies", tmp_path / "server", "--bundle", bundle) as server:
        model = model_of(server)
        assert sorted(ask(server, "/datastore/?output=all")["objects"]) == cases
        file, report = server.call("infer", model, cases[0], {})
        image = read_case(tmp_path / "studies" / f"{cases[0]}.nii.gz", channels=("_0000", "_0001")).volume
        expected = Segmenter.from_bundle(bundle, device="cpu")(image)
        assert np.array_equal(read_volume(file, labels=True).array, expected.labels.array)
        assert report["label_names"] == {"organ": 1, "lesion": 2}
        idle(server, "scoring")
        ask(server, f"/scoring/{model}", "POST", max_samples=0)
        assert idle(server, "scoring")["status"] == "DONE"
        (root,) = (tmp_path / "server" / "state" / "bundles").iterdir()
        scores = read_scores(root)
        assert sorted(scores) == cases and not any(score.error for score in scores.values())
        info = {"label_info": [{"name": "organ", "idx": 1}, {"name": "lesion", "idx": 3}]}
        labels = {case: dataset / "labelsTr" / f"{case.removesuffix('_0000')}.nii.gz" for case in cases}
        server.calls([["save_label", case, str(path), "", info] for case, path in labels.items()])
        server.call("train_start", model, {"max_epochs": 1, "learning_rate": 0.001, "device": "cpu"})
        task = idle(server, "train")
        assert task["status"] == "DONE" and any("epoch 1 of 1" in line for line in task["details"]), task
