"""Cohorts on a Ray cluster: two nodes of this machine, actors that are killed, and one that cannot load."""

import json
import os
import subprocess
import sys
import warnings

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT))
from test_cohort import NAMES, run_stub, tries_of

from unetpp_monai.cohort import cluster
from unetpp_monai.cohort.launch import Launch
from unetpp_monai.errors import OutputError

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # Ray warns of itself


NODE = {"num_cpus": 1}


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes with a core each."""
    ray = cluster._import_ray()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        paths = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)
        found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        found.add_node(**NODE)
        found.wait_for_nodes()
        yield found.address
        ray.shutdown()
        found.shutdown()
        os.environ.pop("PYTHONPATH") if paths is None else os.environ.update(PYTHONPATH=paths)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "marks").mkdir()
    return tmp_path


LOOPBACK = """
from unetpp_monai.cohort.cluster import AUTO, Actors
crew = Actors(AUTO, None, count=1)
crew._begin = lambda: None
with crew:
    print(sorted({node["NodeManagerAddress"] for node in crew._ray.nodes()}))
    crew._actors = []
"""


def test_without_a_cluster_one_is_started_on_loopback():
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", LOOPBACK], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == f"['{cluster.LOOPBACK}']", result.stderr


def test_two_nodes_segment_every_case_once_though_actors_die(address, folder):
    names = [*NAMES, "once", "wrong"]
    came, counts = run_stub(folder, Launch(ray=address), names, seconds=0.5)
    assert counts == {"written": 7, "failed": 1, "late": 0}
    processes = {line.split()[0] for name in names for line in (folder / "marks" / name).read_text().splitlines()}
    assert len(processes) >= 3  # an actor on each node, and one that took the place of the dead
    assert tries_of(folder, "once") == ["usual"] * 2 and {len(tries_of(folder, name)) for name in NAMES} == {1}
    assert came["wrong"].reason == "ValueError: it is wrong"
    assert {json.loads((folder / "out" / f"{name}.json").read_text())["weights_sha256"] for name in NAMES} == {"stub"}


def test_a_model_that_cannot_be_loaded_ends_the_run(address, folder):
    with pytest.raises(OutputError, match="ValueError: no such weights"):
        run_stub(folder, Launch(ray=address), broken="no such weights")


def test_a_cluster_that_is_not_there(folder):
    with pytest.raises(OutputError, match=r"a Ray cluster must be reached at 127\.0\.0\.1:1, got"):
        run_stub(folder, Launch(ray="127.0.0.1:1"))
