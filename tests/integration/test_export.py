"""Files for other runtimes: checked before they are delivered, described beside them, never half-written."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from helpers import BUNDLE

from unetpp_monai import read_bundle
from unetpp_monai.bundle import load_network
from unetpp_monai.errors import BundleError, InputError, OutputError
from unetpp_monai.runtimes.converters import CONVERTERS
from unetpp_monai.workflows.export import export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(BUNDLE)


@pytest.mark.parametrize("to", CONVERTERS)
def test_file_and_sidecar(bundle, tmp_path, to):
    converter = CONVERTERS[to]
    for package in converter.needs:
        pytest.importorskip(package)
    written = export(bundle, tmp_path / f"net{converter.suffix}", to=to, depth=1)
    about = json.loads(written.sidecar.read_text())
    for name, digest in about["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in tmp_path.iterdir()} == {*about["sha256"], written.sidecar.name}
    assert (about["depth"], about["weights_sha256"]) == (1, bundle.weights_sha256)
    assert about["window"]["roi_size"] == [32, 48, 32] and about["spatial_multiple"] == [2, 2, 2]
    assert about["preprocessing"][0]["_target_"] == "EnsureChannelFirstd"
    assert about["check"]["labels_equal"] >= 0.9999 and written.difference <= 1e-3
    image = torch.rand(3, 1, 16, 8, 20)  # other sizes of every axis that is said to be free
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    with torch.inference_mode():
        np.testing.assert_allclose(converter.load(written.file)(image).numpy(), network(image, 1).numpy(), atol=1e-3)


def test_wrong_logits_are_not_delivered(bundle, tmp_path, monkeypatch):
    right = CONVERTERS["torchscript"]
    wrong = dataclasses.replace(right, load=lambda file: lambda image: right.load(file)(image) + 1)
    monkeypatch.setitem(CONVERTERS, "torchscript", wrong)
    with pytest.raises(BundleError, match=r"torchscript must give eager's logits within 0\.001"):
        export(bundle, tmp_path / "net.ts", to="torchscript", depth=1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(bundle, tmp_path):
    with pytest.raises(InputError, match=r"format must be one of onnx, .*, got 'tflite'"):
        export(bundle, tmp_path / "net.tflite", to="tflite")
    with pytest.raises(InputError, match=r"a file for onnx must end in \.onnx"):
        export(bundle, tmp_path / "net.pt", to="onnx")
    with pytest.raises(InputError, match="depth must be from 1 to 3, got 4"):
        export(bundle, tmp_path / "net.ts", to="torchscript", depth=4)
    (tmp_path / "net.ts.json").touch()
    with pytest.raises(OutputError, match=r"net\.ts\.json exists"):
        export(bundle, tmp_path / "net.ts", to="torchscript")
    with pytest.raises(OutputError, match="must be writable"):
        export(bundle, tmp_path / "nowhere" / "net.ts", to="torchscript")
