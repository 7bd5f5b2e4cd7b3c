"""Threads of a process that shares its machine: PyTorch at once, OpenVINO's graphs when they are compiled."""

import pytest
import torch

from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.runtimes import openvino, threads
from unetpp_monai.runtimes.backend import Backend


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    threads.limit_threads(1)
    yield
    threads._limit.clear()
    torch.set_num_threads(before)


def compiled_hints(monkeypatch):
    """What OpenVINO is asked for when a graph is compiled."""
    asked = {}
    core = openvino.import_openvino().Core
    real = core.compile_model

    def compile_model(self, model, device, hints):
        asked.update(hints)
        return real(self, model, device, hints)

    monkeypatch.setattr(core, "compile_model", compile_model)
    monkeypatch.setattr(openvino.model_cache, "fingerprint", lambda *arguments: None)  # nothing is taken from the disk
    network = UNetPlusPlus(2, 1, 2, [4, 4]).eval()
    Backend(network, "openvino")(torch.zeros(1, 1, 16, 16))
    return asked


def test_graphs_get_the_threads_of_their_process_one_stream_each(monkeypatch, one_thread):
    assert torch.get_num_threads() == threads.thread_limit() == 1
    asked = compiled_hints(monkeypatch)
    assert (asked["INFERENCE_NUM_THREADS"], asked["NUM_STREAMS"]) == ("1", "1")
    assert asked["ENABLE_CPU_PINNING"] == "NO"


def test_without_a_limit_openvino_decides(monkeypatch):
    assert threads.thread_limit() is None and "NUM_STREAMS" not in compiled_hints(monkeypatch)
