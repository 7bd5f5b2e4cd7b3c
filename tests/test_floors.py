"""Imports point down, optional packages stay in their rooms, and importing does no work."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "unetpp_monai"
FLOORS = {
    "errors": 0,
    "volume": 1,
    "labels": 1,
    "networks": 2,
    "transforms": 4,
    "metrics": 2,
    "inferers": 2,
    "resampling": 3,
    "openvino_graph": 1,
    "backends": 3,
    "io": 2,
    "preview": 3,
    "bundle": 3,
    "segmenter": 5,
    "calibration": 6,
    "pipeline": 6,
    "packing": 4,
    "export": 4,
    "evaluation": 4,
    "pacs": 4,
    "monailabel_app": 7,
    "cli": 8,
    "slicer": 8,
    "__main__": 9,
}
ROOMS = {
    "PIL": {"io"},
    "SimpleITK": {"io"},
    "highdicom": {"io"},
    "pydicom": {"io", "pacs"},
    "slicerio": {"io"},
    "monailabel": {"monailabel_app"},
    "fastapi": {"monailabel_app"},
    "uvicorn": {"monailabel_app"},
    "filelock": {"monailabel_app"},
    "slicer": {"slicer"},
    "qt": {"slicer"},
    "vtk": {"slicer"},
    "dicomweb_client": {"pacs"},
    "pynetdicom": {"pacs"},
    "matplotlib": {"preview"},
    "typer": {"cli"},
    "rich": {"cli"},
}


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path):
    """Yield (absolute module, level of relative import) of every import statement, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room, depth = room_of(path), len(path.relative_to(PACKAGE).parts)
    for module, level in imports_of(path):
        if level == depth and module:  # from the package's root
            target = module.split(".")[0]
            assert FLOORS[target] < FLOORS[room], f"{path.name} imports {module}"
        elif level == 0:
            assert not module.startswith("unetpp_monai"), f"{path.name}: relative imports only"
            homes = ROOMS.get(module.split(".")[0], {room})
            assert room in homes, f"{module} belongs into {homes}, not into {path.name}"
            if room == "networks":
                assert module.split(".")[0] in {"torch", "monai", *sys.stdlib_module_names}, module


def test_every_room_has_a_floor():
    assert {room_of(path) for path in MODULES} - {"sample"} == set(FLOORS)


def test_importing_does_no_work():
    """The package alone loads no torch; the network loads no reader; neither prints."""
    script = (
        "import sys, unetpp_monai\n"
        "assert not {'torch', 'monai', 'nibabel'} & set(sys.modules)\n"
        "from unetpp_monai.networks import UNetPlusPlus\n"
        "assert not {'typer', 'unetpp_monai.io', 'unetpp_monai.volume'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_public_names_are_sorted_complete_and_real():
    import unetpp_monai

    assert unetpp_monai.__all__ == sorted(unetpp_monai.__all__)
    assert set(unetpp_monai.__all__) == set(unetpp_monai._HOMES)
    for name in unetpp_monai.__all__:
        assert getattr(unetpp_monai, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unetpp_monai.nothing


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            body = node.end_lineno - node.body[0].lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            assert body <= 40, f"{node.name} has {body} lines"
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
