"""Folders for model servers: laid out and described as the servers look for them."""

import json

import numpy as np
import pytest
import torch
from helpers import BUNDLE

from unetpp_monai import read_bundle
from unetpp_monai.bundle import load_network
from unetpp_monai.errors import InputError, OutputError
from unetpp_monai.runtimes.converters import CONVERTERS
from unetpp_monai.workflows.serving import LAYOUTS, export_for_server

pytestmark = pytest.mark.slow
NAME = "unetpp_hippocampus_mri_segmentation"
TRITON = """name: "unetpp_hippocampus_mri_segmentation"
backend: "onnxruntime"
max_batch_size: 0
input [
  {
    name: "image"
    data_type: TYPE_FP32
    dims: [-1, 1, -1, -1, -1]
  }
]
output [
  {
    name: "logits"
    data_type: TYPE_FP32
    dims: [-1, 3, -1, -1, -1]
  }
]
"""
OPENVINO = {"model_config_list": [{"config": {"name": NAME, "base_path": f"/models/{NAME}"}}]}
FILES = {
    "triton": {"1/model.onnx", "config.pbtxt", "unetpp.json"},
    "openvino-server": {"1/model.xml", "1/model.bin", "config.json", "unetpp.json"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_of_a_server(tmp_path, layout):
    converter = CONVERTERS[LAYOUTS[layout][0]]
    for package in converter.needs:
        pytest.importorskip(package)
    bundle = read_bundle(BUNDLE)
    written = export_for_server(bundle, tmp_path / "models", layout=layout, depth=1)
    root = tmp_path / "models" / NAME
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == FILES[layout]
    assert json.loads(written.sidecar.read_text())["depth"] == 1
    if layout == "triton":
        assert (root / "config.pbtxt").read_text() == TRITON
    else:
        assert json.loads((root / "config.json").read_text()) == OPENVINO
    image = torch.rand(1, 1, 32, 48, 32)
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    with torch.inference_mode():
        np.testing.assert_allclose(converter.load(written.file)(image).numpy(), network(image, 1).numpy(), atol=1e-3)
    with pytest.raises(OutputError, match="exists; choose another folder"):
        export_for_server(bundle, tmp_path / "models", layout=layout, depth=1)


def test_unknown_layout(tmp_path):
    with pytest.raises(InputError, match="layout must be one of triton, openvino-server, got 'torchserve'"):
        export_for_server(read_bundle(BUNDLE), tmp_path, layout="torchserve")
    assert not list(tmp_path.iterdir())
