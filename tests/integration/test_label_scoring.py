"""Scoring through the server: its progress, its cancellation, and that it goes on where it stopped."""

import json

import pytest
from helpers import BUNDLE, phantom, save_nifti
from helpers.label_server import label_python, serving
from helpers.learning import ask, idle
from helpers.tiny import make_tiny
from helpers.waiting import wait_for

from unetpp_monai.annotation.scores import read_scores
from unetpp_monai.annotation.version_store import copy_bundle

pytestmark = pytest.mark.server

IMAGES = 15


def test_scoring_is_cancelled_and_goes_on_where_it_stopped(tmp_path):
    label_python()
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed in range(IMAGES):
        save_nifti(studies / f"case_{seed:02}.nii.gz", phantom((60, 80, 60), seed=seed)[0])
    whole = (studies / "case_00.nii.gz").read_bytes()
    (studies / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    bundle = make_tiny(copy_bundle(BUNDLE, tmp_path / "bundle"))
    with serving(studies, tmp_path / "server", "--bundle", bundle) as server:  # which scores at its start
        (root,) = (tmp_path / "server" / "state" / "bundles").iterdir()
        wait_for(lambda: len(read_scores(root)) >= 3, "three scores", every=0.02)
        task = ask(server, "/scoring/", "DELETE")
        assert task["status"] == "STOPPED"
        assert any(f"of {IMAGES + 1}" in line for line in task["details"])
        idle(server, "scoring")
        done = read_scores(root)
        assert 3 <= len(done) < IMAGES
        ask(server, f"/scoring/{root.name}", "POST", depth="full")
        task = idle(server, "scoring")
        assert task["status"] == "DONE", task
        scores = read_scores(root)
        assert len(scores) == IMAGES + 1 and {image: scores[image] for image in done} == done
        assert scores["broken"].error and not any(score.error for image, score in scores.items() if image != "broken")
        assert any(f'"executed": {IMAGES + 1 - len(done)}, "skipped": {len(done)}' in line for line in task["details"])
        assert not any("case_" in line for line in task["details"])
        assert json.loads(server.request("/info/")[1])["datastore"]["total"] == IMAGES + 1
