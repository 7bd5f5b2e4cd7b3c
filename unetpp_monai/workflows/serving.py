"""Folders that model servers load: the exported network where they look for it, and what they are told of it."""

import json
from pathlib import Path

from ..bundle import Bundle, folder_name
from ..errors import InputError, OutputError
from ..files import make_folder, whole_folder
from .export import Exported, export

LAYOUTS = {"triton": ("onnx", "model.onnx"), "openvino-server": ("openvino", "model.xml")}  # format, name they look for
VERSION = "1"  # folder of a model's first version
SIDECAR = "unetpp.json"
MOUNTED = "/models"  # where OpenVINO Model Server's container has the folder


def export_for_server(bundle: Bundle, output: Path, *, layout: str, depth: int | None = None) -> Exported:
    """Write the network as a folder that a model server loads as it is.

    Args:
        bundle: whose network and weights.
        output: folder of models, the server's repository; `<output>/<name of the bundle>/1/` is made in it.
        layout: one of `LAYOUTS`.
        depth: see `export`.

    Returns:
        What was written; the sidecar lies in the model's folder.

    Raises:
        InputError: unknown layout, or as `export`.
        OutputError: the model is there already, or cannot be written.
        BundleError: as `export`.
    """
    if layout not in LAYOUTS:
        raise InputError(f"a layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    to, file_name = LAYOUTS[layout]
    name = folder_name(bundle.name)
    root = output / name
    if root.exists():
        raise OutputError(f"{root} exists; choose another folder")
    make_folder(output)
    with whole_folder(root) as folder:
        (folder / VERSION).mkdir()
        written = export(bundle, folder / VERSION / file_name, to=to, depth=depth)
        about = json.loads(written.sidecar.read_text(encoding="utf-8"))
        told = ("config.pbtxt", _triton(name, about)) if layout == "triton" else ("config.json", _openvino_server(name))
        (folder / told[0]).write_text(told[1], encoding="utf-8")
        written.sidecar.rename(folder / SIDECAR)  # servers may take every file beside a model for a part of it
    return Exported(root / VERSION / file_name, root / SIDECAR, written.difference)


def _openvino_server(name: str) -> str:
    return json.dumps({"model_config_list": [{"config": {"name": name, "base_path": f"{MOUNTED}/{name}"}}]}, indent=2)


def _triton(name: str, about: dict[str, dict[str, object]]) -> str:
    """State the tensors in Triton's text format; -1 is any size, the batch's among them."""

    def tensor(key: str) -> str:
        stated = about[key]
        axes, free = stated["axes"], stated["dynamic"]
        sizes = [-1 if axis in free else stated["channels"] for axis in axes]  # type: ignore[attr-defined,operator]
        return f'{key} [\n  {{\n    name: "{stated["name"]}"\n    data_type: TYPE_FP32\n    dims: {sizes}\n  }}\n]\n'

    head = f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: 0\n'
    return head + tensor("input") + tensor("output")
