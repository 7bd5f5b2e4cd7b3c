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
from helpers import BUNDLE, ROOT

from unetpp_monai import Segmenter, pack, read_volume
from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import BundleError, OutputError
from unetpp_monai.networks import UNetPlusPlus

NAME = "unetpp_hippocampus_mri_segmentation"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("dist"))


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
    }
    assert wanted < files
    assert not [name for name in files if "__pycache__" in name or "eval/" in name or name.endswith(".nii.gz")]
    sums = dict(reversed(line.split("  ")) for line in (packed.folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == files - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((packed.folder / name).read_bytes()).hexdigest() == digest


def test_archives_of_the_same_files_are_equal(packed, tmp_path):
    assert pack(tmp_path).archive.read_bytes() == packed.archive.read_bytes()


def test_a_bundle_without_its_licence_is_refused(packed, tmp_path):
    shutil.copytree(packed.folder, tmp_path / "bundle")
    (tmp_path / "bundle" / "LICENSE").unlink()
    with pytest.raises(BundleError, match="a bundle must hold LICENSE to be packed"):
        pack(tmp_path / "dist", bundle=tmp_path / "bundle")


def test_nothing_is_overwritten(packed):
    before = packed.archive.stat()
    with pytest.raises(OutputError, match="must not exist yet"):
        pack(packed.folder.parent)
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
    expected = Segmenter.from_bundle(device="cpu")(volume).labels
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


def test_overlay_is_frozen_in(overlay, tmp_path):
    packed = pack(tmp_path / "dist", task=overlay)
    assert packed.folder.name == "unetpp_left_atrium_mri_segmentation"
    bundle = read_bundle(packed.folder)
    assert [label.name for label in bundle.labels] == ["left atrium"]
    values = json.loads((overlay / "task.json").read_text())
    for name in ("inference", "train"):
        config = json.loads((packed.folder / "configs" / f"{name}.json").read_text())
        assert {key: config[key] for key in values if key in config} == {
            key: values[key] for key in values if key in config
        }
        assert config["network_def"]["_target_"] == "unetpp_monai.networks.UNetPlusPlus"
    assert bundle.metadata["changelog"] == {"0.1.0": "configuration only"}
    assert Segmenter(bundle, device="cpu").network.depth == 4
    for name in ("README.md", "data_license.txt"):  # figures and terms of the base's weights must not be claimed
        text = (packed.folder / "docs" / name).read_text()
        assert "Atrial Segmentation Challenge" in text and "ippocampus" not in text


def test_what_was_measured_with_other_weights_is_not_inherited(overlay, tmp_path):
    of_the_base = ["exit_thresholds", "coronal_border"]
    for name, keys in (("task.json", of_the_base), ("metadata.json", ["depths", "review", "eval_metrics"])):
        values = json.loads((overlay / name).read_text())
        (overlay / name).write_text(json.dumps({key: value for key, value in values.items() if key not in keys}))
    bundle = read_bundle(pack(tmp_path / "dist", task=overlay).folder)
    assert all(bundle.parser()[key] == [] for key in of_the_base)
    assert json.loads((bundle.root / "configs" / "train.json").read_text())["coronal_border"] == []
    assert [bundle.metadata[key] for key in ("depths", "review", "eval_metrics")] == [{}, {}, {}]


def test_overlays_that_do_not_fit(overlay, tmp_path):
    values = json.loads((overlay / "task.json").read_text())

    def expect(message):
        with pytest.raises(BundleError, match=message):
            pack(tmp_path / "dist", task=overlay)
        assert list((tmp_path / "dist").iterdir()) == []

    (overlay / "task.json").write_text(json.dumps({**values, "pixdmi": 1}))
    expect(r"every key of an overlay must exist in .* got \['pixdmi'\]")
    (overlay / "task.json").write_text(json.dumps({**values, "features": [8, 16, 32]}))
    expect("must hold the weights of network_def")
    (overlay / "task.json").write_text(json.dumps(values))
    (overlay / "model.pt").unlink()
    expect("must hold trained weights")
    with pytest.raises(BundleError, match=r"a task must be a folder with task\.json"):
        pack(tmp_path / "dist", task="nothing")
