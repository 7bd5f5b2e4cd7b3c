"""The bundle as MONAI's own tools see it, and our strict reading of it."""

import copy
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import BUNDLE, DEFAULT_BUNDLE, ROOT, SHARED, phantom, save_nifti
from helpers.commands import read, run
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, load, verify_metadata, verify_net_in_out

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.bundle import ImageInput, ReviewRule, default_bundle, load_network, read_bundle
from unetpp_monai.depth import Depth
from unetpp_monai.errors import BundleError

SCHEMA_SHA256 = "cd64aa8a5904426f6fc6855dabe46af8c742d5bad644b4e9cfb78ebad09ad678"
INFERENCE, TRAIN = BUNDLE / "configs" / "inference.json", BUNDLE / "configs" / "train.json"


@pytest.fixture
def copied(tmp_path):
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=shutil.ignore_patterns("eval")))


def workflow(*configs, kind, **overrides):
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in configs]
    made = ConfigWorkflow(
        config_file=files if len(files) > 1 else files[0],
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        workflow_type=kind,
        logging_file=False,
        **overrides,
    )
    made.initialize()
    return made


def test_metadata_follows_the_schema():
    schema = SHARED / "data" / "schema" / "meta_schema_20240725.json"
    if not schema.exists():
        pytest.skip(f"needs the schema {schema}")
    verify_metadata(
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        filepath=str(schema),
        hash_val=SCHEMA_SHA256,
        hash_type="sha256",
    )


@pytest.mark.parametrize(
    "path",
    [path for folder in ("unetpp_monai/base", "configs", "bundle") for path in sorted((ROOT / folder).rglob("*.json"))],
    ids=str,
)
def test_json_has_no_duplicate_keys(path):
    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), keys
        return dict(pairs)

    json.loads(path.read_text(), object_pairs_hook=unique)


def test_network_gives_what_the_metadata_promises():
    verify_net_in_out("network_def", meta_file=str(BUNDLE / "configs" / "metadata.json"), config_file=str(INFERENCE))


@pytest.mark.parametrize(
    ("configs", "kind"), [(["inference"], "infer"), (["train"], "train"), (["train", "evaluate"], "train")]
)
def test_every_property_is_there(configs, kind, tmp_path, monkeypatch, msd_folder):
    monkeypatch.chdir(tmp_path)
    data = msd_folder / "imagesTr" if kind == "infer" else msd_folder
    places = {"bundle_root": str(BUNDLE), "dataset_dir": str(data), "output_dir": str(tmp_path)}
    assert workflow(*configs, kind=kind, **places).check_properties() == []
    if kind == "infer":
        assert workflow(*configs, kind=kind).check_properties() == []  # with no data and no bundle_root


def test_shared_numbers_are_equal_in_both_configs():
    inference, train = read(INFERENCE), read(TRAIN)
    keys = (
        "spatial_dims",
        "in_channels",
        "out_channels",
        "features",
        "pixdim",
        "resize",
        "roi_size",
        "overlap",
        "device",
    )
    assert {key: inference[key] for key in keys} == {key: train[key] for key in keys}
    assert train["network"] == inference["network"].replace("located(@network_def, @locator)", "@network_def")
    assert {**inference["network_def"], "deep_supervision": True} == train["network_def"]
    assert inference["inferer"]["inferer"] == {
        **train["validate"]["depth_inferer"]["inferer"],
        "sw_batch_size": "@sw_batch_size",
    }
    deterministic = copy.deepcopy(train["train"]["deterministic_transforms"])
    for step in deterministic:
        for key in ("keys", "mode"):
            step[key] = step[key][0] if isinstance(step.get(key), list) else step.get(key)
    stated = [{"mode": None, **step} for step in inference["preprocessing"]["transforms"]]
    located = [step.pop("_disabled_") for step in stated if "locator" in step.get("_disabled_", "")]
    assert located == ["$bool(@locator_features)"]  # then each box is normalised for itself
    assert [step for step in deterministic if step["keys"] == "image"] == stated
    names = read(BUNDLE / "configs" / "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert len(names) == inference["out_channels"]
    assert "mirror_axes" not in train  # an overlay sets both: passes to average there, `flip_axes` here
    assert len(train["head_weights"]) == len(train["features"]) - 1 == len(inference["exit_thresholds"]) + 1


def test_weights_fit_both_networks_strictly():
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    for path in (INFERENCE, TRAIN):
        ConfigParser(read(path)).get_parsed_content("network_def").load_state_dict(weights, strict=True)
    assert (BUNDLE / "models" / "model.pt").stat().st_size <= 20e6


def test_inference_network_is_a_tensor_in_both_modes_and_takes_dropout():
    config = ConfigParser(read(INFERENCE))
    config["network_def#dropout"] = 0.3
    network = config.get_parsed_content("network_def")
    images = torch.rand(1, 1, 16, 16, 16)
    assert torch.is_tensor(network.train()(images)) and torch.is_tensor(network.eval()(images))
    assert not torch.equal(network.train()(images), network(images))


@pytest.mark.slow
def test_load_and_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"config_file": str(INFERENCE), "meta_file": str(BUNDLE / "configs" / "metadata.json")}
    ckpt_export("network_def", "model.ts", ckpt_file=str(BUNDLE / "models" / "model.pt"), **options)
    network = load(name="bundle", bundle_dir=str(BUNDLE.parent), source="github", workflow_type="inference").eval()
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    images = torch.rand(1, 1, 24, 24, 24)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(torch.jit.load("model.ts")(images), network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_run_inference_from_another_folder_with_overrides(tmp_path, image_file):
    arguments = ("--config_file", INFERENCE, "--bundle_root", BUNDLE, "--dataset_dir", image_file.parent)
    run(*arguments, "--output_dir", tmp_path / "full", folder=tmp_path)
    run(
        *arguments,
        "--output_dir",
        tmp_path / "shallow",
        "--depth",
        1,
        "--inferer#inferer#overlap",
        0.25,
        folder=tmp_path,
    )
    full, shallow = (nib.load(tmp_path / name / "case_1_seg.nii.gz") for name in ("full", "shallow"))
    source = nib.load(image_file)
    for labels in (full, shallow):
        assert labels.shape == source.shape
        np.testing.assert_allclose(labels.affine, source.affine, atol=1e-6)
        assert labels.get_data_dtype() == np.uint8 and set(np.unique(labels.dataobj)) <= {0, 1, 2}
    assert not np.array_equal(full.dataobj, shallow.dataobj)
    assert not list(tmp_path.glob("*/*uncertainty*"))


def test_depth_is_an_option_that_monai_label_shows():
    """It lists `displayable_configs` and sets what the user chose there, as text or number."""
    for chosen, expected in (("full", Depth()), ("auto", Depth(adaptive=True)), ("2", Depth(2)), (1, Depth(1))):
        parser = ConfigParser(read(INFERENCE))
        parser["displayable_configs"]["depth"] = chosen
        inferer = parser.get_parsed_content("inferer")
        assert inferer.depth == expected
        network = parser.get_parsed_content("network_def").eval()
        with torch.inference_mode():
            logits = inferer(torch.rand(1, 1, 32, 48, 32), network)
        assert logits.shape == (1, 3, 32, 48, 32)


@pytest.mark.slow
def test_run_inference_with_auto_depth_and_uncertainty(tmp_path, image_file):
    """What MONAI's own runner writes is what our API gives."""
    arguments = ("--config_file", INFERENCE, "--bundle_root", BUNDLE, "--dataset_dir", image_file.parent)
    options = ("--depth", "auto", "--uncertainty", True, "--device", "cpu")
    run(*arguments, "--output_dir", tmp_path / "out", *options, folder=tmp_path)
    segmenter = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")
    expected = segmenter(read_volume(image_file), depth="auto", uncertainty=True)
    labels, doubts = (read_volume(tmp_path / "out" / f"case_1_{name}.nii.gz") for name in ("seg", "uncertainty"))
    assert labels.same_grid(expected.labels) and doubts.same_grid(expected.labels)
    np.testing.assert_array_equal(labels.array, expected.labels.array)
    np.testing.assert_allclose(doubts.array, expected.uncertainty.array, atol=1e-5)


@pytest.mark.slow
def test_run_refuses_what_monais_readers_would_take(tmp_path):
    array = phantom((20, 20, 20))[0]
    array[3, 3, 3] = np.nan
    save_nifti(tmp_path / "nan.nii.gz", array)
    arguments = (
        "--config_file",
        INFERENCE,
        "--bundle_root",
        BUNDLE,
        "--dataset_dir",
        tmp_path,
        "--output_dir",
        tmp_path / "out",
    )
    result = run(*arguments, folder=tmp_path, check=False)
    assert result.returncode != 0 and "voxels must be finite" in result.stdout + result.stderr
    assert not list((tmp_path / "out").glob("*"))  # none either where the folder was not made


@pytest.mark.parametrize("configs", [["inference"], ["train"], ["train", "evaluate"]])
@pytest.mark.slow
def test_run_names_a_data_folder_that_is_not_there(tmp_path, configs):
    files = ",".join(f"'{BUNDLE}/configs/{name}.json'" for name in configs)
    places = ("--bundle_root", BUNDLE, "--dataset_dir", tmp_path / "lost", "--output_dir", tmp_path / "out")
    result = run("--config_file", f"[{files}]", *places, folder=tmp_path, check=False)
    assert result.returncode != 0
    assert f"must exist, got {tmp_path / 'lost'}" in result.stdout + result.stderr


@pytest.mark.parametrize("names", [{"1": "a"}, {"1": "a", "2": "b", "3": "c"}, {"1": "a", "2": "a"}])
def test_names_must_be_those_of_the_networks_channels(copied, names):
    path = copied / "configs" / "metadata.json"
    metadata = read(path)
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", **names}
    del metadata["label_codes"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(BundleError, match="channel_def must name the labels 1 to 2 of network_def, each differently"):
        Segmenter.from_bundle(copied, device="cpu")


def test_default_bundle_is_found_from_a_checkout():
    assert default_bundle() == DEFAULT_BUNDLE
    bundle = read_bundle()
    assert bundle.version == next(iter(bundle.metadata["changelog"]))
    assert load_network(bundle, bundle.parser(), torch.device("cpu")).training is False


def test_input_and_review_are_typed(copied):
    bundle = read_bundle(BUNDLE)
    assert bundle.input == ImageInput(1, ("T1-weighted MRI",), "MR", 3)
    assert (bundle.review.threshold, bundle.review.cases) == (0.0096, 42)
    path = copied / "configs" / "metadata.json"
    metadata = read(path)
    path.write_text(json.dumps({key: value for key, value in metadata.items() if key != "review"}))
    assert read_bundle(copied).review == ReviewRule()
    path.write_text(json.dumps({**metadata, "review": {"treshold": 1}}))
    with pytest.raises(BundleError, match=r"review must have the keys of ReviewRule, got .*treshold"):
        read_bundle(copied)
    del metadata["network_data_format"]["inputs"]["image"]["modality"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(
        BundleError, match="network_data_format#inputs#image#modality must be a text such as 'MR', got none"
    ):
        read_bundle(copied)


def test_a_score_must_be_of_a_measure_that_exists(copied):
    metadata = json.loads((copied / "configs/metadata.json").read_text())
    for review, measure in (({}, "disagreement"), ({"measure": "entropy"}, "entropy")):
        (copied / "configs/metadata.json").write_text(json.dumps({**metadata, "review": review}))
        assert read_bundle(copied).measure == measure
    (copied / "configs/metadata.json").write_text(json.dumps({**metadata, "review": {"measure": "variance"}}))
    with pytest.raises(BundleError, match="must be entropy or disagreement, got 'variance'"):
        read_bundle(copied)


@pytest.mark.parametrize("part", ["configs/metadata.json", "configs/inference.json", "models/model.pt"])
def test_a_missing_part_is_named(copied, part):
    (copied / part).unlink()
    with pytest.raises(BundleError, match=f"a bundle must hold {part}"):
        read_bundle(copied)


def test_broken_metadata_is_named(copied):
    (copied / "configs" / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match=r"metadata\.json must be a JSON object, got Expecting"):
        read_bundle(copied)


def drop_one(weights):
    del weights[next(iter(weights))]


def add_one(weights):
    weights["more"] = torch.zeros(1)


def reshape_one(weights):
    weights[next(iter(weights))] = torch.zeros(3)


@pytest.mark.parametrize("change", [drop_one, add_one, reshape_one])
def test_wrong_weights_are_refused(copied, change):
    path = copied / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    change(weights)
    torch.save(weights, path)
    bundle = read_bundle(copied)
    with pytest.raises(BundleError, match="must hold the weights of network_def"):
        load_network(bundle, bundle.parser(), torch.device("cpu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(copied, value):
    path = copied / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    weights[list(weights)[-1]].view(-1)[0] = value
    torch.save(weights, path)
    bundle = read_bundle(copied)
    with pytest.raises(BundleError, match=r"weights must be finite numbers, got others for outputs"):
        load_network(bundle, bundle.parser(), torch.device("cpu"))


def test_weights_with_a_flipped_bit_are_refused(copied):
    path = copied / "models" / "model.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    bundle = read_bundle(copied)
    with pytest.raises(BundleError, match="must be complete, got another checksum"):
        load_network(bundle, bundle.parser(), torch.device("cpu"))


@pytest.mark.parametrize("content", [b"rubbish", b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_file_of_weights_is_refused(copied, content):
    (copied / "models" / "model.pt").write_bytes(content)
    bundle = read_bundle(copied)
    with pytest.raises(BundleError, match="must hold the weights of network_def"):
        load_network(bundle, bundle.parser(), torch.device("cpu"))


def test_weights_that_are_code_are_refused(copied):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"x": print}, copied / "models" / "model.pt")
    bundle = read_bundle(copied)
    with pytest.raises(BundleError, match="must hold the weights"):
        load_network(bundle, bundle.parser(), torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("root", [BUNDLE, DEFAULT_BUNDLE], ids=["crops", "heads"])
def test_conformance_checker(root, tmp_path):
    """The offline checker of every rule that a consumer of bundles has, on the bundle with the package inside."""
    checker = SHARED / "tools" / "check_bundle.py"
    if not checker.exists():
        pytest.skip(f"needs {checker}")
    copied = tmp_path / "bundle"
    shutil.copytree(root, copied)
    shutil.copytree(ROOT / "unetpp_monai", copied / "unetpp_monai", ignore=shutil.ignore_patterns("__pycache__"))
    schema = SHARED / "data" / "schema" / "meta_schema_20240725.json"
    runs = ["--run"] if root == BUNDLE else []  # its noise is no head, which is refused
    command = [sys.executable, checker, copied, "--schema", schema, *runs]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "0 MUST rule(s) failed" in result.stdout
    warned = [line for line in result.stdout.splitlines() if line.startswith("WARN ")]
    # M7: versions other than the tested ones; N8: a keyword of UNetPlusPlus, which two networks in one do not take
    assert [line for line in warned if line[5:7] not in (("M7",) if runs else ("M7", "N8"))] == []
