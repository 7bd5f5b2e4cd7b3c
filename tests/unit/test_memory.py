"""What is free, by machine, group and process; nothing is taken."""

import subprocess
import sys

import pytest

from unetpp_monai import memory
from unetpp_monai.errors import InputError


def lay_out(folder, monkeypatch, files):
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 1000 kB\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(memory, "PROC", folder / "proc")
    monkeypatch.setattr(memory, "CGROUP", folder / "cgroup")


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 1_024_000),
        ({"proc/self/cgroup": "0::/job\n", "cgroup/job/memory.max": "max\n"}, 1_024_000),
        (
            {
                "proc/self/cgroup": "0::/jobs/mine\n",
                "cgroup/jobs/memory.max": "5000\n",
                "cgroup/jobs/memory.current": "4000\n",
                "cgroup/jobs/memory.stat": "anon 1\ninactive_file 300\n",
                "cgroup/jobs/mine/memory.max": "9000\n",
                "cgroup/jobs/mine/memory.current": "10\n",
            },
            1300,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/job\n",
                "cgroup/memory/memory.limit_in_bytes": "700\n",
                "cgroup/memory/memory.usage_in_bytes": "900\n",
            },
            0,
        ),
    ],
)
def test_the_least_of_all_is_free(tmp_path, monkeypatch, files, free):
    lay_out(tmp_path, monkeypatch, files)
    assert memory.available_memory() == free
    memory.check_memory(free, "the voxels of a.nii", way_out="cut it")
    with pytest.raises(InputError, match=r"the voxels of a.nii need .* GiB of memory, got .* GiB free; cut it"):
        memory.check_memory(free + 1, "the voxels of a.nii", way_out="cut it")


def test_a_limit_of_the_process_counts():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from unetpp_monai.memory import available_memory; print(available_memory())"
    )
    free = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert 0 < free < 1 << 30


def test_processes_that_the_system_ended_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.memory_kills() == 0  # it does not say
    (tmp_path / "vmstat").write_text("pgfault 3\noom_kill 2\n")
    assert memory.memory_kills() == 2
