"""Runtimes give the network's answer, at every depth, whole and step by step."""

import importlib.util
import shutil
import sys

import pytest
import torch
from helpers import ROOT
from monai.inferers import SlidingWindowInferer

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.errors import InputError
from unetpp_monai.inference import DepthInferer
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.runtimes.backend import NEEDS, Backend, choose_backend

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CASE = ROOT / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz"


SLOW_COMPILE = pytest.param("compile", 2, marks=pytest.mark.long)  # a C++ compiler


def needs(runtime):
    if runtime in NEEDS:
        pytest.importorskip(NEEDS[runtime][-1])
    if runtime == "compile" and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")


def build(dims, features=(4, 8, 16)):
    return UNetPlusPlus(dims, 1, 3, features, deep_supervision=False).eval()


@pytest.mark.parametrize(
    ("runtime", "dims"),
    [("torchscript", 2), ("torchscript", 3), ("openvino", 2), ("openvino", 3), ("onnxruntime", 3), SLOW_COMPILE],
)
def test_runtimes_agree_with_eager(runtime, dims):
    needs(runtime)
    network = build(dims, (4, 8) if runtime == "compile" else (4, 8, 16))  # a C++ compiler is slow
    windows = torch.rand(3, 1, *(16, 32, 16)[:dims])
    backend = choose_backend(network, runtime, device=CPU)
    assert isinstance(backend, Backend) and backend.runtime == runtime
    with torch.inference_mode():
        grid = {"image": windows}
        for depth, expected in enumerate(network.heads(windows), 1):
            torch.testing.assert_close(backend(windows, depth), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(backend.step(grid, depth), expected, atol=1e-4, rtol=0)
            leap = backend.step({"image": windows}, depth, last=True)  # all anti-diagonals in one graph
            torch.testing.assert_close(leap, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(backend(windows[:2]), network(windows[:2]), atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("runtime", ["eager", "compile", "tensorrt"])
def test_runtimes_agree_with_eager_on_a_gpu(runtime, precision):
    needs(runtime)
    network, windows = build(3).cuda(), torch.rand(3, 1, 16, 32, 16, device="cuda")
    backend = choose_backend(network, runtime, device=windows.device, precision=precision)
    tolerance = 1e-3 if precision == "float32" else 0.5
    with torch.inference_mode():
        grid = {"image": windows}
        for depth, expected in enumerate(network.heads(windows), 1):
            torch.testing.assert_close(backend(windows, depth), expected, atol=tolerance, rtol=0)
            if (runtime, precision) != ("eager", "float32"):  # the network itself
                torch.testing.assert_close(backend.step(grid, depth), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("runtime", ["torchscript", "openvino"])
def test_labels_of_the_sample_are_the_same(runtime):
    """Real weights on a real volume."""
    needs(runtime)
    volume = read_volume(CASE)
    eager = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")
    other = Segmenter.from_bundle("hippocampus", device="cpu", runtime=runtime)
    for depth in (1, 2, 3, "auto"):
        expected, result = eager(volume, depth=depth), other(volume, depth=depth)
        assert (result.runtime, expected.runtime) == (runtime, "eager")
        assert (result.labels.array == expected.labels.array).mean() >= 0.9999
        assert result.windows == expected.windows


def test_early_exit_in_openvino_goes_on_with_what_is_computed():
    """Each window is a request of its own: one that goes all the way alone has the bits of one among others."""
    needs("openvino")
    backend = choose_backend(build(3), "openvino", device=CPU)
    image = torch.rand(1, 1, 40, 16, 16)
    sliding = SlidingWindowInferer((16, 16, 16), sw_batch_size=3, overlap=0.5)
    with torch.inference_mode():
        windows = torch.rand(4, 1, 16, 16, 16)
        grid = {"image": windows}
        backend.step(grid, 1)
        full = backend.step(dict(grid), 2)
        kept = torch.tensor([False, True, False, True])
        alone = backend.step({name: features[kept] for name, features in grid.items()}, 2)
        assert torch.equal(alone, full[kept])
        auto = DepthInferer(sliding, depth="auto")(image, backend)
        torch.testing.assert_close(auto, DepthInferer(sliding)(image, backend), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dims", "options"), [(2, {}), (3, {"attention": True}), (3, {"upsample": "interp"})])
def test_openvino_holds_features_channels_last(dims, options):
    """Its own order: what one graph gives, the next takes without rearranging. Shapes do not tell, strides do."""
    needs("openvino")
    torch.manual_seed(0)
    network = UNetPlusPlus(dims, 2, 3, (4, 8, 16, 24), **options).eval()
    backend = choose_backend(network, "openvino", device=CPU)
    windows = torch.rand(3, 2, *(16, 32, 16)[:dims])
    grid, expected = {"image": windows}, {"image": windows}
    with torch.inference_mode():
        for depth in (1, 2, 3):
            torch.testing.assert_close(backend.step(grid, depth), network.step(expected, depth), atol=2e-4, rtol=0)
    assert set(grid) == set(expected)
    for name, features in grid.items():
        torch.testing.assert_close(features, expected[name], atol=2e-4, rtol=0)
        assert name == "image" or features.movedim(1, -1).is_contiguous()


def test_bfloat16_is_asked_for_and_never_a_default():
    windows = torch.rand(2, 1, 16, 16)
    network = build(2)
    with torch.inference_mode():
        half = choose_backend(network, "eager", device=CPU, precision="bfloat16")(windows)
        assert half.dtype == torch.float32
        difference = (half - network(windows)).abs().max()
    assert 1e-4 < difference < 0.5


def test_auto_is_openvino_where_it_is_installed(monkeypatch):
    network = build(2)
    find = importlib.util.find_spec
    for installed in (True, False):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=installed: sys if found else None)
        backend = choose_backend(network, device=CPU)
        assert getattr(backend, "runtime", "eager") == ("openvino" if installed else "eager")
    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert choose_backend(network, "auto", device=torch.device("cuda")) is network


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tflite"}, "runtime must be auto, eager, .*, got 'tflite'"),
        ({"precision": "int8"}, "precision float32, bfloat16, float16, got 'eager' and 'int8'"),
        ({"runtime": "openvino", "device": torch.device("cuda")}, "openvino runs on cpu only, got device cuda"),
        ({"runtime": "tensorrt"}, "tensorrt runs on cuda only, got device cpu; use device cuda or runtime eager"),
        ({"precision": "float16"}, "eager on cpu does not compute in float16"),
        ({"runtime": "onnxruntime", "precision": "bfloat16"}, "onnxruntime on cpu does not compute in bfloat16"),
    ],
)
def test_what_no_runtime_does(options, message):
    with pytest.raises(InputError, match=message):
        choose_backend(build(2), **{"runtime": "eager", "device": CPU, **options})


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for runtime, package, device in (("openvino", "openvino", "cpu"), ("tensorrt", "torch_tensorrt", "cuda")):
        with pytest.raises(InputError, match=f"pip install {package}"):
            choose_backend(build(2), runtime, device=torch.device(device))
