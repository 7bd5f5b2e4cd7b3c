"""A bundle of an older version loads, with a warning and equal voxels; names that exist nowhere are refused."""

import json
import shutil

import numpy as np
import pytest
from helpers import BUNDLE, HELPERS, ROOT
from helpers.tiny import make_tiny

from unetpp_monai import Segmenter, pack, read_bundle, read_volume
from unetpp_monai.bundle import config_sha256, read_config
from unetpp_monai.errors import BundleError
from unetpp_monai.files import sha256
from unetpp_monai.moved_names import MOVED, missing_names

OLD = HELPERS.parent / "bundles"


@pytest.fixture(params=sorted(path.name for path in OLD.iterdir() if path.is_dir()))
def old(request, tmp_path):
    """The old configs with the weights that they were packed with."""
    root = shutil.copytree(OLD / request.param, tmp_path / "old")
    weights = ROOT / "configs" / "hippocampus" / "model.pt"
    assert f"{sha256(weights)}  models/model.pt\n" in (root / "SHA256SUMS").read_text()
    (root / "models").mkdir()
    shutil.copyfile(weights, root / "models" / "model.pt")
    return root


@pytest.mark.slow
def test_voxels_are_equal(old, image_file):
    volume = read_volume(image_file)
    with pytest.warns(FutureWarning, match="inference.json is of an older version: names that have moved"):
        segmenter = Segmenter.from_bundle(old, device="cpu", runtime="eager")
    now = Segmenter.from_bundle(BUNDLE, device="cpu", runtime="eager")
    for options in ({"depth": "full"}, {"depth": "auto"}):
        found, wanted = (one(volume, **options).labels.array for one in (segmenter, now))
        assert wanted.any()
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.filterwarnings("ignore:.*is of an older version:FutureWarning")
def test_every_config_names_what_exists(old):
    for path in (old / "configs").glob("*.json"):
        read_config(path)


def test_packed_again_it_warns_no_more(old, tmp_path):
    folder = old / "docs"
    folder.mkdir()
    (folder / "README.md").touch()
    shutil.copyfile(ROOT / "LICENSE", old / "LICENSE")
    packed = pack(tmp_path / "dist", bundle=old)
    for name in ("inference", "train", "evaluate", "multi_gpu_train"):
        read_config(packed.folder / "configs" / f"{name}.json")
    assert read_bundle(packed.folder).version == old_version(old)


def old_version(root):
    return json.loads((root / "configs" / "metadata.json").read_text())["version"]


def test_the_table_leads_to_what_exists():
    assert not list(missing_names([{"_target_": name} for name in MOVED.values()]))
    assert set(missing_names([{"_target_": name} for name in MOVED])) == set(MOVED)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("unetpp_monai.inference.DepthInferer", "unetpp_monai.inference.Sweeper", "unetpp_monai.inference.Sweeper"),
        ("unetpp_monai.networks.UNetPlusPlus", "nowhere.Net", "nowhere.Net"),
        ("from unetpp_monai.io import case_name", "from unetpp_monai.io import named", "unetpp_monai.io.named"),
    ],
)
def test_a_name_that_is_nowhere_is_refused(old, new, named, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    path = tmp_path / "bundle" / "configs" / "inference.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BundleError, match=rf"inference\.json must use existing names, got {named}"):
        Segmenter.from_bundle(tmp_path / "bundle", device="cpu", trust=True)  # else no other module is looked for


def test_the_hash_of_a_config_says_what_it_does_not_where(tmp_path):
    bundle = read_bundle(BUNDLE)
    moved = read_bundle(shutil.copytree(BUNDLE, tmp_path / "elsewhere"))
    assert moved.config_sha256 == bundle.config_sha256
    parser = bundle.parser()
    parser["device"], parser["dataset_dir"], parser["output_dir"] = "cpu", "/data", "/out"
    assert config_sha256(parser) == bundle.config_sha256
    parser.get_parsed_content("inferer")
    assert config_sha256(parser) == bundle.config_sha256  # parsing changes nothing
    for key, value in (("mirror_axes", [0]), ("exit_thresholds", [0.0, 0.1]), ("inferer#inferer#overlap", 0.25)):
        changed = bundle.parser()
        changed[key] = value
        assert config_sha256(changed) != bundle.config_sha256
    assert config_sha256(read_bundle(make_tiny(moved.root)).parser()) != bundle.config_sha256
