"""Imports point down, optional packages stay in their rooms, files stay small, and importing does no work."""

import ast
import subprocess
import sys

import pytest
from helpers import ROOT

PACKAGE = ROOT / "unetpp_monai"
FLOORS = [  # from the ground up; rooms of one floor do not know each other
    {"words"},
    {"errors", "faults", "_version", "label_rules", "located"},
    {"posix_only", "durations"},
    {"volume", "intensities", "memory", "labels", "depth", "files", "provenance", "moved_names", "task_rules"}
    | {"json_files", "last_line", "pieces", "prompts", "csv_files"},
    {"plausibility"},
    {"gates"},
    {"task", "trust"},
    {"networks", "dicom", "segmentation"},
    {"inference", "runtimes"},
    {"io"},
    {"bundle", "training"},
    {"interactive"},
    {"segmenter"},
    {"planning"},
    {"workflows"},
    {"pacs"},
    {"annotation", "click_server"},
    {"cohort"},
    {"cli", "slicer"},
    {"__main__"},
]
ORDERS = {  # within a room, from the ground up
    "dicom": "reading media tiles discovery geometry acquisition planes header_rules common identity contours "
    "vocabulary series deidentify seg_reader seg_verify seg sr rtstruct_reader rtstruct",
    "runtimes": "threads model_cache openvino converters backend",
    "inference": "patches slab anytime sliding_window autocast early_exit mirror locator boxes depth heads "
    "timed source_grid transforms",
    "io": "compressed nifti_header nifti layout nrrd_layout meta_layout itk picture overview seg_nrrd label_table "
    "reader series_channels channels cases case_list label_files monai_reader monai_writer",
    "click_server": "arrays clicked leases options protocol server",
    "pacs": "archive limits dimse_server dimse_association dicomweb dimse transfer rules journal found series_queue "
    "orthanc_feed receiver listener service",
    "cohort": "dicom_tree cases claims ledger pictures work loop dispatch messages worker local cluster launch table "
    "statistics report review run begin",
    "planning": "dataset bids folders layouts label_maps examine reading checking topology budget decision grid "
    "intensity folds augmentation decisions describe planner",
    "interactive": "kinds held_windows reach marking segments session",
    "bundle": "configs metadata components writing folder weights judge trial",
    "trust": "names expressions configs sums stored_weights",
    "training": "sampling stored labels checks initial_weights prompting cases progress scores curve schedule history "
    "guard",
    "workflows": "metrics outputs preview label_pairs evaluate convert request report done segment many calibrate "
    "export serving pack held_out validation run_record cross_validation undertrained card smoke pack_runs "
    "training_log training_run training_length training_end train run doctor",
}
ROOMS = {
    "PIL": {"io"},
    "SimpleITK": {"io", "inference", "pieces", "planning"},
    "highdicom": {"dicom"},
    "pydicom": {"dicom", "pacs"},
    "slicerio": {"io"},
    "monailabel": {"annotation"},
    "fastapi": {"annotation"},
    "uvicorn": {"annotation"},
    "filelock": {"annotation"},
    "blosc2": {"click_server"},
    "slicer": {"slicer"},
    "qt": {"slicer"},
    "vtk": {"slicer"},
    "dicomweb_client": {"pacs"},
    "pynetdicom": {"pacs"},
    "openvino": {"runtimes"},
    "openvino_telemetry": set(),
    "onnxruntime": {"runtimes"},
    "matplotlib": {"workflows"},
    "ray": {"cohort"},
    "jinja2": {"cohort"},
    "typer": {"cli"},
    "rich": {"cli"},
}
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
ELSEWHERE = {PACKAGE / "__init__.py", PACKAGE / "base" / "zoo_test.py"}  # the second runs in the model zoo
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path not in ELSEWHERE]


def parts_of(path):
    """Dotted name below the package, of a room's `__init__` the room's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def is_module(parts):
    path = PACKAGE.joinpath(*parts)
    return path.with_suffix(".py").is_file() or path.is_dir()


def targets_of(node, path):
    """What a relative import means, as parts below the package; () = the package itself."""
    base = path.relative_to(PACKAGE).parts[: -node.level]
    base = (*base, *(node.module.split(".") if node.module else ()))
    for alias in node.names:
        yield (*base, alias.name) if is_module((*base, alias.name)) else base


def faults_of(path):
    """Imports of a module that run up, sideways, or out of their room."""
    here = parts_of(path)
    room = here[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            for target in targets_of(node, path):
                if not is_below(target, here):
                    yield f"{'.'.join(here)} imports {'.'.join(target) or 'the package itself'}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            for package in (name.split(".")[0] for name in names):
                if package == "unetpp_monai" and room != "slicer":
                    yield f"{'.'.join(here)} imports absolutely"
                if room not in ROOMS.get(package, {room}):
                    yield f"{'.'.join(here)} imports {package}, which belongs into {ROOMS[package]}"
                if room == "networks" and package not in {"torch", "monai", *sys.stdlib_module_names}:
                    yield f"{'.'.join(here)} imports {package}"


def is_below(target, here):
    if not target or target[0] not in HEIGHT:
        return False
    if target[0] != here[0]:
        return HEIGHT[target[0]] < HEIGHT[here[0]]
    order = ORDERS.get(here[0], "").split()
    if not order or len(here) == 1 or len(target) == 1:  # a room's face may know all of it
        return len(here) == 1 or len(target) > 1 or here[0] not in ORDERS
    return order.index(target[1]) < order.index(here[1])


def test_imports_point_down():
    assert [fault for path in MODULES for fault in faults_of(path)] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("from .. import __version__", "io.reader imports the package itself"),
        ("from .. import segmenter", "io.reader imports segmenter"),
        ("from ..bundle import Bundle", "io.reader imports bundle"),
        ("from . import cases", "io.reader imports io.cases"),
        ("from .cases import case_name", "io.reader imports io.cases"),
        ("import unetpp_monai.bundle", "io.reader imports absolutely"),
        ("def f():\n    from pynetdicom import AE", "io.reader imports pynetdicom, which belongs into {'pacs'}"),
        ("from ..volume import Volume\nfrom .nifti import read_nifti\nimport numpy", None),
    ],
)
def test_an_import_that_runs_up_is_seen(source, fault, tmp_path, monkeypatch):
    path = PACKAGE / "io" / "reader.py"
    monkeypatch.setattr(type(path), "read_text", lambda self: source)
    assert list(faults_of(path)) == ([fault] if fault else [])


def test_every_room_has_a_floor_and_every_module_of_an_order_a_place():
    data = {"sample"}  # no code
    assert {parts_of(path)[0] for path in MODULES} - data == set(HEIGHT)
    for room, order in ORDERS.items():
        assert {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"} == set(order.split())


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


def long_parts(path):
    text = path.read_text()
    if len(text.splitlines()) > 300:
        yield f"{path} has more than 300 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            body = node.end_lineno - node.body[0].lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            if body > 40:
                yield f"{path}: {node.name} has {body} lines"
        if isinstance(node, ast.Assert):
            yield f"{path}: assert in line {node.lineno}"


def test_files_and_functions_stay_small():
    assert [fault for path in MODULES for fault in long_parts(path)] == []
