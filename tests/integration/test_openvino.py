"""OpenVINO sends nothing to anybody, and compiles a network once, not at every start."""

import os
import stat
import subprocess
import sys

import pytest
import torch
from helpers.waiting import DEADLINE

from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.runtimes import backend as room
from unetpp_monai.runtimes import model_cache
from unetpp_monai.runtimes.backend import choose_backend

pytest.importorskip("openvino")
pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
GUARD = """
import os, sys
def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostby", "urllib.")):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{event} {arguments}\\n")
        raise OSError("no connections")
sys.addaudithook(refuse)
"""
OURS = """
from pathlib import Path
import torch
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.runtimes.backend import choose_backend
from unetpp_monai.runtimes.converters import CONVERTERS
network = UNetPlusPlus(2, 1, 2, (4, 8)).eval()
image = torch.rand(1, 1, 16, 16)
choose_backend(network, "openvino", device=torch.device("cpu"))(image)
openvino = CONVERTERS["openvino"]
openvino.save(openvino.convert(network, (image,), free=True), Path("network.xml"))
openvino.load(Path("network.xml"))(image)
"""


def connections(script, folder):
    """What a process without `CI` and with a home of its own wants to connect to, and what it leaves at home."""
    home, log = folder / "home", folder / "connections"
    home.mkdir()
    log.touch()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(home), "CONNECTIONS": str(log)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GUARD + script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text(), {path.name for path in home.iterdir()}


def test_nothing_is_sent_to_anybody(tmp_path):
    asked, left = connections(OURS, tmp_path)
    assert asked == "" and ".cache" in left and "intel" not in left


def test_openvino_alone_would_send_something(tmp_path):
    """Else the test above could not fail."""
    pytest.importorskip("openvino_telemetry")
    script = (
        "import os, time, openvino\n"
        "from pathlib import Path\n"
        "while not Path(os.environ['CONNECTIONS']).read_text(): time.sleep(0.05)\n"
    )
    asked, left = connections(script, tmp_path)
    assert "urllib.Request" in asked and "intel" in left


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """An empty cache, and the list of modules that were converted since."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    modules, convert = [], room.to_openvino

    def noted(module, examples):
        modules.append(module)
        return convert(module, examples)

    monkeypatch.setattr(room, "to_openvino", noted)
    return modules


def logits(seed=0, size=16, precision="float32", depth=2):
    network = UNetPlusPlus(2, 1, 3, (4, 8, 16), seed=seed).eval()
    windows = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(1))
    return choose_backend(network, "openvino", device=CPU, precision=precision)(windows, depth)


def kept():
    return sorted(model_cache.cache_folder().glob("*.blob"))


def test_a_network_is_converted_once(converted):
    first = logits()
    assert torch.equal(logits(), first) and len(converted) == len(kept()) == 1
    for number, other in enumerate(({"seed": 1}, {"size": 24}, {"precision": "bfloat16"}, {"depth": 1}), 2):
        logits(**other)
        assert len(converted) == len(kept()) == number
    assert torch.equal(logits(), first) and len(converted) == 5


def test_code_that_decides_what_is_compiled_is_part_of_the_key(converted, monkeypatch):
    logits()
    monkeypatch.setattr(model_cache, "CODE", ("networks",))
    logits()
    assert len(converted) == 2


@pytest.mark.slow
@pytest.mark.long
def test_a_broken_file_is_made_anew(converted):
    first = logits()
    [path] = kept()
    whole = path.read_bytes()
    broken = (whole[:-1], whole[:40], b"", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    for number, content in enumerate(broken, 2):
        path.write_bytes(content)
        assert torch.equal(logits(), first) and torch.equal(logits(), first)
        assert len(converted) == number


def test_only_its_owner_may_read_it(converted):
    logits()
    assert stat.S_IMODE(model_cache.cache_folder().stat().st_mode) == 0o700


def test_where_nothing_can_be_kept_it_works_without(converted, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert torch.equal(logits(), logits()) and len(converted) == 2


def test_a_module_that_cannot_be_told_from_others_is_not_kept(converted):
    network = UNetPlusPlus(2, 1, 3, (4, 8)).eval()
    network.nodes["x_0_0"].extra = lambda: None
    assert model_cache.fingerprint(network) is None
    choose_backend(network, "openvino", device=CPU).step({"image": torch.rand(1, 1, 16, 16)}, 1)
    assert kept() == []


def test_the_oldest_go_first(converted, monkeypatch):
    logits()
    monkeypatch.setattr(model_cache, "MOST_BYTES", int(2.5 * kept()[0].stat().st_size))
    for seed in (1, 0, 2):  # 0 is used once more
        for path in kept():
            os.utime(path, (path.stat().st_mtime - 1,) * 2)  # no clock of a file system is coarser
        logits(seed)
    assert len(kept()) == 2 and len(converted) == 3
    logits(0)
    assert len(converted) == 3
    logits(1)
    assert len(converted) == 4


@pytest.mark.parametrize(
    ("platform", "place"),
    [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")],
)
def test_where_it_lies(platform, place, monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_cache.cache_folder() == tmp_path / place / "unetpp_monai" / "openvino"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert model_cache.cache_folder() == tmp_path / "cache" / "unetpp_monai" / "openvino"
