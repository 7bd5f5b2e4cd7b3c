"""Packed bundles run where neither the checkout nor the installed package can be imported."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from helpers import BUNDLE, DEFAULT_BUNDLE, ROOT
from monai.bundle import ConfigParser

from unetpp_monai import Segmenter, pack, read_volume
from unetpp_monai.bundle import ReviewRule, read_bundle
from unetpp_monai.errors import BundleError, OutputError
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.task import BASE, LOCAL, base_config, read_task

pytestmark = pytest.mark.slow

NAME = "unetpp_hippocampus_mri_segmentation"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("dist"), task="hippocampus")


@pytest.fixture
def overlay(tmp_path):
    """The left atrium overlay with weights of the right shape."""
    folder = tmp_path / "left_atrium"
    shutil.copytree(ROOT / "configs" / "left_atrium", folder)
    features = json.loads((folder / "task.json").read_text())["features"]
    torch.save(UNetPlusPlus(3, 1, 2, features).state_dict(), folder / "model.pt")
    return folder


def test_folder_zip_and_hashes(packed):
    assert packed.folder.name == NAME
    with zipfile.ZipFile(packed.archive) as archive:
        names = archive.namelist()
    files = {path.relative_to(packed.folder).as_posix() for path in packed.folder.rglob("*") if path.is_file()}
    assert {name.removeprefix(f"{NAME}/") for name in names} == files
    wanted = {
        "LICENSE",
        "configs/metadata.json",
        "models/model.pt",
        "docs/README.md",
        "unetpp_monai/networks/blocks.py",
        f"zoo/test_{NAME}.py",
    }
    assert wanted < files
    assert not [name for name in files if "__pycache__" in name or "eval/" in name or name.endswith(".nii.gz")]
    sums = dict(reversed(line.split("  ")) for line in (packed.folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == files - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((packed.folder / name).read_bytes()).hexdigest() == digest


def test_archives_of_the_same_files_are_equal(packed, tmp_path):
    assert pack(tmp_path, task="hippocampus").archive.read_bytes() == packed.archive.read_bytes()


def test_a_bundle_without_its_licence_is_refused(packed, tmp_path):
    shutil.copytree(packed.folder, tmp_path / "bundle")
    (tmp_path / "bundle" / "LICENSE").unlink()
    with pytest.raises(BundleError, match="a bundle must hold LICENSE to be packed"):
        pack(tmp_path / "dist", bundle=tmp_path / "bundle")


def test_nothing_is_overwritten(packed):
    before = packed.archive.stat()
    with pytest.raises(OutputError, match="must not exist yet"):
        pack(packed.folder.parent, task="hippocampus")
    assert packed.archive.stat() == before
    assert sorted(path.name for path in packed.folder.parent.iterdir()) == [NAME, f"{NAME}.zip"]


def isolated(script, folder):
    """Run a script in a process that can import site-packages but not the checkout."""
    hide = (
        "import importlib.util, sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "sys.path_hooks = [hook for hook in sys.path_hooks if 'editable' not in repr(hook).lower()]\n"
        f"sys.path = [entry for entry in sys.path if entry not in ('', {str(ROOT)!r})]\n"
        "importlib.invalidate_caches()\n"
        "assert importlib.util.find_spec('unetpp_monai') is None\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", hide + script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_runs_in_a_foreign_folder_without_the_package(packed, tmp_path, image_file):
    script = (
        "from monai.bundle import run\n"
        f"run(config_file={str(packed.folder / 'configs' / 'inference.json')!r}, bundle_root={str(packed.folder)!r},\n"
        f"    dataset_dir={str(image_file)!r}, output_dir='out')\n"
        "import unetpp_monai.bundle\n"
        f"assert unetpp_monai.__file__.startswith({str(packed.folder)!r}), unetpp_monai.__file__\n"
        f"assert str(unetpp_monai.bundle.default_bundle()) == {str(packed.folder)!r}\n"
    )
    result = isolated(script, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    volume = read_volume(image_file)
    expected = Segmenter.from_bundle("hippocampus", device="cpu")(volume).labels
    np.testing.assert_array_equal(read_volume(tmp_path / "out" / "case_1_seg.nii.gz").array, expected.array)


def test_zip_loads_where_only_monai_is_installed(packed, tmp_path):
    with zipfile.ZipFile(packed.archive) as archive:
        archive.extractall(tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / NAME)!r})\n"
        "sys.modules.update(dict.fromkeys(['nibabel', 'pydicom', 'SimpleITK', 'typer', 'rich', 'ignite']))\n"
        "from monai.bundle import load\n"
        f"network = load(name={NAME!r}, bundle_dir={str(tmp_path)!r}, source='github', workflow_type='inference')\n"
        "assert sum(p.numel() for p in network.parameters()) > 1e6\n"
        "import torch\n"
        f"weights = torch.load({str(BUNDLE / 'models' / 'model.pt')!r}, weights_only=True)\n"
        "assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())\n"
    )
    result = isolated(script, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.long
@pytest.mark.parametrize(("task", "count"), [("hippocampus", 2), ("nuclei_2d", 2), ("hippocampus_head", 1)])
def test_unit_tests_of_the_zoo_pass(task, count, tmp_path):
    """As the zoo's CI runs them, from its root: all of them, none skipped, and the bundle stays as it was."""
    folder = pack(tmp_path / "models", task=task).folder
    before = bytes_of(folder)
    (tmp_path / "ci" / "unit_tests").mkdir(parents=True)
    shutil.copy(folder / "zoo" / f"test_{folder.name}.py", tmp_path / "ci" / "unit_tests")
    names = f"import sys; sys.path.append('ci/unit_tests'); import unittest; unittest.main('test_{folder.name}')"
    result = isolated(names, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"Ran {count} test" in result.stderr and "skipped" not in result.stderr
    after = {name: content for name, content in bytes_of(folder).items() if "__pycache__" not in name}
    assert after == before


def bytes_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_bundle_in_the_checkout_is_what_pack_writes(tmp_path):
    """`make bundle` writes it; what only a packed bundle has is the package and the sums."""
    found = {name: content for name, content in bytes_of(DEFAULT_BUNDLE).items() if not name.startswith("eval/")}
    wanted = bytes_of(pack(tmp_path).folder)
    extra = {name for name in wanted if name == "SHA256SUMS" or name.startswith(("unetpp_monai/", "zoo/"))}
    assert {"unetpp_monai/base/train.json", "SHA256SUMS"} <= extra
    assert sorted(found) == sorted(wanted.keys() - extra)
    assert [name for name in found if found[name] != wanted[name]] == []


@pytest.fixture(scope="module")
def liver(tmp_path_factory):
    """A task of another's: an organ in CT with a tumour inside, without codes, authors or documents."""
    folder = tmp_path_factory.mktemp("own") / "liver"
    folder.mkdir()
    values = {
        "dataset_dir": "/home/someone/patients",
        "ckpt_dir": "/home/someone/weights",
        "initial_weights": "/home/someone/model.pt",
        "out_channels": 3,
        "features": [4, 8, 8],
        "pixdim": [1.5, 1.5, 2.0],
        "patch_size": [32, 32, 16],
        "roi_size": [32, 32, 16],
        "head_weights": [0.6, 0.4],
    }
    spec = {
        "type": "image",
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
    }
    image = {**spec, "format": "hounsfield", "modality": "CT", "num_channels": 1, "channel_def": {"0": "CT"}}
    names = {"0": "background", "1": "liver", "2": "tumour"}
    pred = {**spec, "format": "labels", "num_channels": 3, "channel_def": names}
    metadata = {
        "name": "My liver",
        "version": "1.0.0",
        "changelog": {"1.0.0": "first"},
        "task": "Segmentation of the liver and its tumours in CT",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
    (folder / "task.json").write_text(json.dumps(values))
    (folder / "metadata.json").write_text(json.dumps(metadata))
    torch.save(UNetPlusPlus(3, 1, 3, values["features"]).state_dict(), folder / "model.pt")
    return folder


# what a task may say of itself, and no other bundle may
WORDS = {
    "hippocampus": ["ippocamp", "Vanderbilt", "Decathlon", "Task04", "5366008", "255549009", "0.03161", "0.0096"],
    "left_atrium": ["trium", "trial", "82471001", "1.25"],
    "nuclei_2d": ["ucle", "Bowl", "84640000", "DSB", "0.2624"],
    "em_membrane_2d": ["embrane", "ISBI", "241"],
    "liver": ["liver", "tumour", "CT scan"],
}


@pytest.mark.parametrize("name", WORDS)
def test_nothing_of_another_task_is_in_a_bundle(name, liver, tmp_path):
    folder = tmp_path / name
    shutil.copytree(liver if name == "liver" else ROOT / "configs" / name, folder)
    if not (folder / "model.pt").is_file():
        task = read_task(folder).values
        network = UNetPlusPlus(
            task.get("spatial_dims", 3), task.get("in_channels", 1), task["out_channels"], task["features"]
        )
        torch.save(network.state_dict(), folder / "model.pt")
    root = pack(tmp_path / "dist", task=folder).folder
    texts = [path for part in ("configs", "docs") for path in (root / part).rglob("*") if path.suffix != ".png"]
    assert {"metadata.json", "train.json", "README.md"} <= {path.name for path in texts}
    said = {path.name: path.read_text() for path in texts}
    for other, words in WORDS.items():
        for word in words if other != name else ():
            assert [file for file, text in said.items() if word in text] == [], word
    configs = {stem: json.loads((root / "configs" / f"{stem}.json").read_text()) for stem in ("inference", "train")}
    stated = read_task(folder).values
    for config in configs.values():
        for key in config.keys() & stated.keys():
            assert config[key] == (base_config("train")[key] if key in LOCAL else stated[key])
        assert config["label_boundary"] == ([1, 2] if name == "hippocampus" else [])
        assert config["dataset_dir"] == "$@bundle_root + '/data'" and "/home" not in json.dumps(config)
    assert configs["inference"]["exit_thresholds"] == stated.get("exit_thresholds", [])
    found = read_bundle(root)
    assert all((label.type is None) == (name in ("liver", "em_membrane_2d")) for label in found.labels)
    assert Segmenter(found, device="cpu").depths[-1] == len(stated["features"]) - 1


def test_what_a_task_does_not_say_is_not_claimed(liver, tmp_path):
    root = pack(tmp_path / "dist", task=liver).folder
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert (metadata["authors"], metadata["copyright"]) == ("not stated", "not stated")
    assert not {"label_codes", "depths", "review", "eval_metrics", "data_source", "intended_use"} & set(metadata)
    assert not any("UNet++ for MONAI" in path.read_text() for path in (root / "docs").iterdir())
    assert (root / "docs" / "README.md").read_text().startswith("My liver\n")
    assert read_bundle(root).review == ReviewRule()


def test_a_tumour_inside_an_organ_stays(liver, tmp_path):
    """No rule of another task divides it, run by MONAI or by us."""
    bundle = read_bundle(pack(tmp_path / "dist", task=liver).folder)
    steps = bundle.parser().get_parsed_content("postprocessing").transforms
    assert "PlanarLabelBoundaryd" not in [type(step).__name__ for step in steps]
    parser = ConfigParser()
    files = [BASE / "train.json", liver / "task.json", BASE / "evaluate.json"]
    parser.read_config([str(file) for file in files])
    steps = parser.get_parsed_content("validate#postprocessing").transforms
    assert [type(step).__name__ for step in steps] == ["AsDiscreted", "AsDiscreted"]


def test_a_task_brings_its_licence(liver, tmp_path):
    shutil.copytree(liver, tmp_path / "own")
    (tmp_path / "own" / "LICENSE").write_text("mine\n")
    assert (pack(tmp_path / "dist", task=tmp_path / "own").folder / "LICENSE").read_text() == "mine\n"


def test_tasks_that_do_not_fit(overlay, tmp_path):
    values = json.loads((overlay / "task.json").read_text())

    def expect(message):
        with pytest.raises(BundleError, match=message):
            pack(tmp_path / "dist", task=overlay)
        assert not (tmp_path / "dist").exists() or list((tmp_path / "dist").iterdir()) == []

    (overlay / "task.json").write_text(json.dumps({**values, "pixdmi": 1}))
    expect("got 'pixdmi'; did you mean 'pixdim'")
    (overlay / "task.json").write_text(json.dumps({**values, "features": [8, 16, 32, 64, 64]}))
    expect("must hold the weights of network_def")
    (overlay / "task.json").write_text(json.dumps(values))
    (overlay / "model.pt").unlink()
    expect("must have trained weights")
    (overlay / "metadata.json").unlink()
    expect(r"metadata\.json must be a JSON object, got No such file")
    with pytest.raises(BundleError, match=r"a task must be a folder with task\.json"):
        pack(tmp_path / "dist", task="nothing")
    with pytest.raises(BundleError, match="a task or a bundle must be packed, got both"):
        pack(tmp_path / "dist", task="nuclei_2d", bundle=BUNDLE)


def test_a_packed_bundle_checks_what_it_trains(packed, tmp_path):
    """The base came along, so that its own copy of the package knows the keys."""
    script = (
        "from monai.bundle import run\n"
        f"run(config_file={str(packed.folder / 'configs' / 'train.json')!r}, bundle_root={str(packed.folder)!r}, "
        "max_epoch=1)\n"
    )
    result = isolated(f"import sys; sys.path.insert(0, {str(packed.folder)!r})\n" + script, tmp_path)
    assert result.returncode != 0 and "got 'max_epoch'; did you mean 'max_epochs'?" in result.stderr


def test_weights_are_those_of_a_finished_training(overlay, tmp_path):
    """The task's own, or of the run on all cases, or of the only fold; several folds are no one's choice."""
    made = (overlay / "model.pt").rename(tmp_path / "model.pt")

    def finish(name, *, record=True):
        run = overlay / "runs" / name
        run.mkdir(parents=True)
        network = UNetPlusPlus(3, 1, 2, json.loads((overlay / "task.json").read_text())["features"], seed=len(name))
        torch.save(network.state_dict(), run / "model.pt")
        if record:
            (run / "run.json").write_text('{"finished": true}')
        return (run / "model.pt").read_bytes()

    finish("fold4", record=False)  # interrupted
    with pytest.raises(BundleError, match="must have trained weights"):
        pack(tmp_path / "none", task=overlay)
    fold = finish("fold0")
    assert (pack(tmp_path / "one", task=overlay).folder / "models" / "model.pt").read_bytes() == fold
    finish("fold1")
    with pytest.raises(BundleError, match=r"got fold0, fold1 in .*runs; train on all cases \(fold all\), or copy"):
        pack(tmp_path / "two", task=overlay)
    whole = finish("all")
    assert (pack(tmp_path / "all", task=overlay).folder / "models" / "model.pt").read_bytes() == whole
    shutil.copyfile(made, overlay / "model.pt")
    assert (pack(tmp_path / "own", task=overlay).folder / "models" / "model.pt").read_bytes() == made.read_bytes()
