"""Cohorts on a Ray cluster: two nodes of this machine, actors that are killed, and one that cannot load."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.waiting import wait_for

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


CLUSTER = """
import json, sys
sys.path.insert(0, {root!r})
from unetpp_monai.cohort import cluster
cluster._import_ray()
from ray.cluster_utils import Cluster
found = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "include_dashboard": False}})
found.add_node(num_cpus=1)
found.wait_for_nodes()
head = found.head_node.all_processes["gcs_server"][0].process.pid
print(json.dumps([found.address, head]), flush=True)
sys.stdin.read()
for node in [*found.worker_nodes, found.head_node]:
    node.kill_all_processes(check_alive=False, allow_graceful=False)
"""
DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {paths}
from test_cohort import run_stub
from unetpp_monai.cohort.launch import Launch
run_stub(Path({folder!r}), Launch(ray={ray!r}), {names!r}, seconds=3)
"""


@pytest.fixture
def lost():
    """Address and head's process of a cluster of two nodes, which is to be killed."""
    command = [sys.executable, "-W", "ignore", "-c", CLUSTER.format(root=str(ROOT))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        lines = (line for line in process.stdout if line.startswith("["))
        yield json.loads(next(lines))
        process.stdin.close()


@pytest.mark.server
def test_a_lost_head_ends_the_run_and_the_next_finishes_the_rest(lost, folder):
    address, head = lost
    names = [f"slow_{index}" for index in range(20)]  # 30 s of two actors: longer than Ray takes to miss its head
    paths = [str(ROOT / "tests"), str(Path(__file__).parent), str(ROOT)]

    def command(ray):
        script = DRIVER.format(paths=paths, folder=str(folder), ray=ray, names=names)
        return [sys.executable, "-W", "ignore", "-c", script]

    driver = subprocess.Popen(command(address), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list((folder / "marks").iterdir())) >= 3, "three cases to be begun")
    os.kill(head, signal.SIGKILL)
    _, said = driver.communicate(timeout=55)  # Ray itself gives up after 60 s, and ends the process
    assert driver.returncode == 1 and "a Ray cluster must keep its head, got" in said.splitlines()[-1], said
    delivered = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("slow_*.json")}
    assert 0 < len(delivered) < len(names)
    # the other node's processes live on for a while: they are no cluster any more
    again = subprocess.run(command("auto"), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    now = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("slow_*.json")}
    assert now.keys() == {f"{name}.json" for name in names} and now.items() >= delivered.items()
    assert not list((folder / "out" / ".cohort" / "claims").glob("[!.]*"))


def test_a_cluster_that_is_not_there(folder):
    with pytest.raises(OutputError, match=r"a Ray cluster must be reached at 127\.0\.0\.1:1, got"):
        run_stub(folder, Launch(ray="127.0.0.1:1"))
