"""Our MONAI Label app, asked by the client that 3D Slicer uses: the voxels of the command line, errors in one line."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from helpers import BUNDLE, SHARED, phantom, save_nifti
from helpers.label_server import label_python, run_cli, run_label, serving

from unetpp_monai import read_volume
from unetpp_monai.bundle import WEIGHTS, read_bundle
from unetpp_monai.io.label_files import read_label_file

pytestmark = pytest.mark.server

MODEL = "unetpp_hippocampus_mri_segmentation"
REAL = SHARED / "data" / "Task04_Hippocampus" / "imagesTr"
CASES = ("hippocampus_001", "hippocampus_003")
LABELS = {label.name: label.index for label in read_bundle(BUNDLE).labels}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two images, real where there are any, and one that cannot be read."""
    label_python()
    folder = tmp_path_factory.mktemp("studies")
    for seed, case in enumerate(CASES):
        if REAL.is_dir():
            shutil.copy(REAL / f"{case}.nii.gz", folder)
        else:
            save_nifti(folder / f"{case}.nii.gz", phantom(seed=seed)[0], np.diag([-1.0, -1.0, 1.0, 1.0]))
    whole = (folder / f"{CASES[0]}.nii.gz").read_bytes()
    (folder / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def server(studies, tmp_path_factory):
    with serving(studies, tmp_path_factory.mktemp("server"), "--task", "hippocampus") as running:
        yield running


@pytest.fixture(scope="module")
def by_cli(studies, tmp_path_factory):
    """Label maps that the command line gives, by depth and case."""
    folder = tmp_path_factory.mktemp("cli")
    cases = [str(studies / f"{case}.nii.gz") for case in CASES]
    depths = ("full", "1", "auto")
    run_cli(
        *(
            ["segment", "--task", "hippocampus", *cases, "-o", str(folder / depth), "--depth", depth, "--device", "cpu"]
            for depth in depths
        )
    )
    return {depth: {case: read_volume(folder / depth / f"{case}_seg.nii.gz") for case in CASES} for depth in depths}


def equal(path, expected):
    found = read_volume(path, labels=True)
    return found.same_grid(expected) and np.array_equal(found.array, expected.array)


def test_info_offers_the_bundle_with_its_options(server):
    info = server.call("info")
    model = info["models"][MODEL]
    assert model["labels"] == LABELS and info["labels"] == list(LABELS)
    assert model["label_colours"]["anterior hippocampus"] == [216, 101, 79]
    assert model["config"] == {"device": ["cpu"], "depth": ["full", "auto", "3", "2", "1"], "uncertainty": False}
    assert (model["type"], model["dimension"]) == ("segmentation", 3)
    assert model["weights_sha256"] == read_bundle(BUNDLE).weights_sha256
    assert info["datastore"]["total"] == len(CASES) + 1


@pytest.mark.parametrize("depth", ["full", "1", "auto"])
def test_voxels_are_those_of_the_command_line(server, by_cli, depth):
    answers = server.calls([["infer", MODEL, case, {"depth": depth}] for case in CASES])
    for case, answer in zip(CASES, answers, strict=True):
        file, report = answer["result"]
        assert file.endswith(".nii.gz") and equal(file, by_cli[depth][case])
        assert report["label_names"] == LABELS and report["depth"] == (
            3 if depth == "full" else depth if depth == "auto" else 1
        )
    assert any(volume.array.any() for volume in by_cli[depth].values())


def test_default_options_are_those_of_the_bundle(server, by_cli):
    sent = server.call("info")["models"][MODEL]["config"]  # as Slicer does, the first of each list; or the whole lists
    firsts = {key: value[0] if isinstance(value, list) else value for key, value in sent.items()}
    for answer in server.calls([["infer", MODEL, CASES[0], options] for options in ({}, firsts, sent)]):
        assert equal(answer["result"][0], by_cli["full"][CASES[0]])


def test_files_as_clients_ask_for_them(server, by_cli):
    """Slicer asks for NRRD of uint8; OHIF reads plain, uncompressed NRRD of uint16 only."""
    expected = by_cli["full"][CASES[1]]
    slicer = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    ohif = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    segments = {"result_extension": ".seg.nrrd"}
    files = [
        answer["result"][0]
        for answer in server.calls([["infer", MODEL, CASES[1], one] for one in (slicer, ohif, segments)])
    ]
    assert all(equal(file, expected) for file in files)
    kinds = [SimpleITK.ReadImage(file).GetPixelID() for file in files[:2]]
    assert kinds == [SimpleITK.sitkUInt8, SimpleITK.sitkUInt16]
    header = Path(files[1]).read_bytes().split(b"\n\n")[0]
    assert b"encoding: raw" in header
    _, structures = read_label_file(Path(files[2]))
    assert {label.name: label.index for label in structures} == LABELS and structures == read_bundle(BUNDLE).labels


def test_report_has_volumes_score_and_times_but_no_paths(server, studies):
    _, report = server.call("infer", MODEL, CASES[0], {"uncertainty": True})
    assert set(report["ml"]) == set(LABELS) and 0 <= report["score"] <= 1 and report["review"] in (True, False)
    assert report["latencies"]["infer"] > 0 and report["weights_sha256"] == read_bundle(BUNDLE).weights_sha256
    assert str(studies) not in json.dumps(report)
    assert server.call("infer", MODEL, CASES[0], {})[1]["score"] is None
    status, body = server.request(f"/infer/{MODEL}?image={CASES[0]}&output=json", method="POST", form={"params": "{}"})
    assert status == 200 and json.loads(body)["label_names"] == LABELS


def test_uploads_and_sessions(server, studies, by_cli):
    image = str(studies / f"{CASES[1]}.nii.gz")
    session = server.call("create_session", image)["session_id"]
    steps = [["infer", MODEL, "", {}, None, image], ["infer", MODEL, "", {}, None, None, session]]
    for answer in server.calls(steps):
        assert equal(answer["result"][0], by_cli["full"][CASES[1]])
    server.call("remove_session", session)
    (answer,) = server.calls([steps[1]])
    assert "session must be an open one" in answer["refused"] and "404" in answer["refused"]


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        (f"{MODEL}?image=broken", "{}", 400, "is not a readable image"),
        (f"nothing?image={CASES[0]}", "{}", 404, f"model must be one of {MODEL}, got nothing"),
        (f"{MODEL}?image=nothing", "{}", 404, "image must be one of the datastore's"),
        (f"{MODEL}?image=/etc/hostname", "{}", 404, "image must be an id of the datastore"),
        (
            f"{MODEL}?image={CASES[0]}",
            '{"image": "/etc/hostname", "depth": "9"}',
            400,
            "depth must be from 1 to 3, auto",
        ),
        (f"{MODEL}?image={CASES[0]}", "[1]", 400, "params must be a JSON object"),
        (f"{MODEL}?image={CASES[0]}", '{"result_extension": ".exe"}', 400, "result_extension must be one of"),
        (f"{MODEL}?image={CASES[0]}", '{"uncertainty": "yes"}', 400, "uncertainty must be true or false"),
        (f"{MODEL}?image={CASES[0]}", '{"device": "cuda:7"}', 400, "device must exist"),
        (f"{MODEL}?image={CASES[0]}&output=dicom_seg", "{}", 400, "dicomseg must refer to a DICOM series"),
    ],
)
def test_refusals_say_why(server, path, params, status, message):
    found, body = server.request(f"/infer/{path}", method="POST", form={"params": params})
    detail = json.loads(body)["detail"]
    assert (found, message in detail) == (status, True), (found, detail)
    assert "\n" not in detail and "Traceback" not in detail


def test_unknown_strategies_are_refused(server):
    (answer,) = server.calls([["next_sample", "nothing", {}]])
    assert (
        "Status: 404" in answer["refused"]
        and "strategy must be one of least_certain, random, first, got nothing" in answer["refused"]
    )


def test_concurrent_requests(server, by_cli):
    """Each gets its own answer, and others are answered meanwhile."""
    wanted = [(case, depth) for depth in ("full", "1", "auto") for case in CASES]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            server.calls, [["infer", MODEL, case, {"depth": depth}] for case, depth in wanted], together=True
        )
        meanwhile = 0
        while not running.done():
            assert server.request("/info/")[0] == 200
            meanwhile += 1
        answers = running.result()
    for (case, depth), answer in zip(wanted, answers, strict=True):
        assert equal(answer["result"][0], by_cli[depth][case]), (case, depth)
    assert meanwhile > 1


def test_submitted_labels_get_the_values_of_the_bundle(server, studies, by_cli, tmp_path):
    """Clients number segments as they show them, and say so."""
    expected = by_cli["full"][CASES[0]]
    swapped = np.array([0, 2, 1], dtype=np.uint8)[expected.array[0]]
    path = save_nifti(tmp_path / "label.nii.gz", swapped, expected.affine)
    info = [{"name": "Posterior Hippocampus", "idx": 1}, {"name": "anterior hippocampus", "idx": 2}]
    server.call("save_label", CASES[0], str(path), "final", {"label_info": info})
    kept = studies / "labels" / "final" / f"{CASES[0]}.nii.gz"
    assert equal(kept, expected)
    assert equal(server.call("download_label", CASES[0], "final"), expected)
    entry = server.call("datastore")["objects"][CASES[0]]["labels"]["final"]["info"]
    assert {one["name"]: one["idx"] for one in entry["label_info"]} == LABELS
    other = save_nifti(tmp_path / "other.nii.gz", swapped[:-1], expected.affine * 1.5)
    unknown = save_nifti(tmp_path / "unknown.nii.gz", np.full_like(swapped, 7), expected.affine)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(path.read_bytes()[:200])
    answers = server.calls(
        [["save_label", CASES[0], str(file), "final", {"label_info": info}] for file in (other, unknown, broken)]
    )
    for answer, message in zip(
        answers, ("must have the voxels of its image", "must be named", "not a readable"), strict=True
    ):
        assert message in answer["refused"]
    assert equal(kept, expected)


def test_weights_that_change_on_disk_are_the_ones_that_answer(server, by_cli, studies, tmp_path):
    weights = server.folder / "state" / "bundles" / MODEL / WEIGHTS
    original = weights.read_bytes()
    values = torch.load(weights, weights_only=True)
    other = {key: value * (0.5 if "weight" in key and value.ndim > 1 else 1) for key, value in values.items()}
    torch.save(other, tmp_path / "model.pt")
    image = studies / f"{CASES[0]}.nii.gz"
    run_label(
        "segment",
        "--task",
        "hippocampus",
        image,
        "-o",
        tmp_path,
        "--weights",
        tmp_path / "model.pt",
        "--device",
        "cpu",
        folder=tmp_path,
    )
    expected = read_volume(tmp_path / f"{CASES[0]}_seg.nii.gz")
    assert not np.array_equal(expected.array, by_cli["full"][CASES[0]].array)
    try:
        weights.write_bytes((tmp_path / "model.pt").read_bytes())
        file, report = server.call("infer", MODEL, CASES[0], {})
        assert equal(file, expected)
        assert server.call("info")["models"][MODEL]["weights_sha256"] == report["weights_sha256"]
        torch.save({"state_dict": values}, weights)
        (answer,) = server.calls([["infer", MODEL, CASES[0], {}]])
        assert "must hold the weights of network_def" in answer["refused"]
    finally:
        weights.write_bytes(original)
    assert equal(server.call("infer", MODEL, CASES[0], {})[0], by_cli["full"][CASES[0]])


def test_an_image_in_which_nothing_is_found(server, tmp_path):
    ramp = np.linspace(0, 1, 32 * 32 * 32, dtype=np.float32).reshape(32, 32, 32)
    image = save_nifti(tmp_path / "ramp.nii.gz", ramp)
    formats = [{}, {"result_extension": ".nrrd"}, {"result_extension": ".seg.nrrd"}]
    for options, answer in zip(
        formats, server.calls([["infer", MODEL, "", one, None, str(image)] for one in formats]), strict=True
    ):
        file, report = answer["result"]
        found = read_volume(file, labels=True)
        assert found.shape == (32, 32, 32) and int(np.count_nonzero(found.array)) == sum(report["voxels"].values()), (
            options
        )


def test_wrong_starts_end_with_one_line(studies, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    torch.save({"state_dict": {}}, tmp_path / "bundle" / WEIGHTS)
    start = ["label", "start", "--port", 1 + 50000, "--state", tmp_path / "state", "--studies"]
    for arguments, message in (
        ([studies, "--bundle", tmp_path / "bundle"], "must hold the weights of network_def"),
        ([studies, "--bundle", BUNDLE, "--bundle", BUNDLE], "bundles must have different names"),
        ([tmp_path / "nothing", "--task", "hippocampus"], "studies must be a folder or a DICOMweb address"),
    ):
        done = run_label(*start, *arguments, folder=tmp_path, check=False)
        assert done.returncode == 1 and "error: " in done.stderr and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
