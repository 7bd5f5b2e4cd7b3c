"""Bundles from elsewhere: what they may run, what was altered, and every fault of a config as one sentence, at once."""

import json
import shutil
import sys
import time

import pytest
import torch
from helpers import BUNDLE, save_nifti
from helpers.commands import unetpp
from helpers.tiny import make_tiny

from unetpp_monai import Segmenter, evaluate, pack, read_bundle
from unetpp_monai.annotation.model_registry import Served, copies
from unetpp_monai.bundle import load_network, parameters_by_depth
from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.files import sha256
from unetpp_monai.pacs import read_rules, segmenting
from unetpp_monai.pacs.rules import Rule
from unetpp_monai.workflows.export import export

CONFIG, METADATA = "configs/inference.json", "configs/metadata.json"
RUN = "$__import__('os').mkdir('ran')"
LONGEST = 500  # characters of a message


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(shutil.copytree(BUNDLE, tmp_path_factory.mktemp("tiny") / "bundle"))


@pytest.fixture
def copied(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(tiny, tmp_path / "bundle")


def change(root, key, value, name=CONFIG):
    """Set a value of a config, or with `KeyError` as value remove it."""
    config = json.loads((root / name).read_text())
    *path, last = [int(part) if part.isdecimal() else part for part in key.split("#")]
    inner = config
    for part in path:
        inner = inner[part if isinstance(inner, list) else str(part)]
    last = last if isinstance(inner, list) else str(last)
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    (root / name).write_text(json.dumps(config))


ATTACKS = {  # key of inference.json -> value
    "network": RUN,
    "depth": RUN,
    "nobody#asks": KeyError,
    "network_def#dropout": RUN,
    "network_def#_disabled_": RUN,
    "network_def#_requires_": [RUN],
    "network_def#_target_": "os.mkdir",
    "inferer#inferer": {"_target_": "os.mkdir", "path": "ran"},
    "preprocessing#transforms#1": {"_target_": "os.mkdir", "path": "ran"},
    "preprocessing#transforms#0#reader": "os.mkdir",
    "postprocessing#transforms#2#writer": "os.mkdir",
    "imports#0": "$import subprocess",
    "imports#1": "$from scripts.net import Net",
    "pixdim": "%/etc/hostname.json",
}


@pytest.mark.parametrize("key", [key for key in ATTACKS if "nobody" not in key])
def test_an_attack_is_refused_by_every_door_before_anything_runs(copied, key, tmp_path):
    change(copied, key, ATTACKS[key])
    bundle = read_bundle(copied)
    assert bundle.foreign and not bundle.trusted
    doors = [
        lambda: Segmenter.from_bundle(copied, device="cpu"),
        lambda: export(bundle, tmp_path / "net.onnx", to="onnx"),
        lambda: pack(tmp_path / "dist", bundle=copied),
        bundle.parser,
    ]
    for door in doors:
        with pytest.raises(BundleError, match="must use listed names only, got ") as caught:
            door()
        assert f"{CONFIG}: {key}" in str(caught.value) and caught.value.option == "trust"
        assert len(str(caught.value)) < LONGEST and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_other_configs_are_judged_too(copied):
    change(copied, "optimizer#_target_", "os.mkdir", "configs/train.json")
    with pytest.raises(BundleError, match=r"got configs/train\.json: optimizer#_target_ \(os\.mkdir\)"):
        Segmenter.from_bundle(copied, device="cpu")


@pytest.mark.parametrize(("name", "content"), [("train.yaml", "a: 1"), ("logging.conf", "[handlers]\nkeys=x")])
def test_configs_that_are_no_json_need_trust(copied, name, content):
    (copied / "configs" / name).write_text(content)
    with pytest.raises(BundleError, match=f"got configs/{name}"):
        Segmenter.from_bundle(copied, device="cpu")
    Segmenter.from_bundle(copied, device="cpu", trust=True)


def test_a_trusted_bundle_runs_what_it_says(copied, tmp_path):
    change(copied, "network_def#dropout", "$0.0 if __import__('os').mkdir('ran') is None else 1")
    Segmenter.from_bundle(copied, device="cpu", trust=True)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.slow
def test_the_command_line_asks_and_info_only_says(copied, tmp_path):
    (tmp_path / "spy.py").write_text(
        "import pathlib\npathlib.Path('ran').mkdir()\nfrom unetpp_monai.networks import *\n"
    )
    change(copied, "network_def#_target_", "spy.UNetPlusPlus")
    image = save_nifti(tmp_path / "image.nii", torch.rand(9, 8, 7).numpy())
    environment = {"PYTHONPATH": str(tmp_path), "COLUMNS": "300"}
    for command in (
        ("segment", image, "-o", "out", "--bundle", copied),
        ("export", "-o", "net.onnx", "--to", "onnx", "--bundle", copied),
        ("pack", "-o", "dist", "--bundle", copied),
    ):
        run = unetpp(*command, folder=tmp_path, environment={**environment})
        assert run.returncode == 1 and "Traceback" not in run.stderr
        (line,) = run.stderr.strip().splitlines()
        assert (
            line.endswith("read them, then trust the bundle (--trust)")
            and "network_def#_target_ (spy.UNetPlusPlus)" in line
        )
    run = unetpp("info", "--bundle", copied, folder=tmp_path, environment=environment)
    assert run.returncode == 0, run.stderr
    assert "runs only with --trust: configs/inference.json: network_def#_target_ (spy.UNetPlusPlus)" in run.stdout
    assert not (tmp_path / "ran").exists()
    run = unetpp("info", folder=tmp_path)
    assert "trust    not needed" in run.stdout


def test_reading_a_bundle_imports_and_builds_nothing(copied, monkeypatch):
    change(copied, "network_def#_target_", "wave.Wave_read")
    change(copied, "imports#0", "$import wave")
    sys.modules.pop("wave", None)
    bundle = read_bundle(copied)
    assert [str(one) for one in bundle.foreign] and "wave" not in sys.modules
    with pytest.raises(BundleError, match="must use listed names only"):
        bundle.parser()
    assert "wave" not in sys.modules


def test_a_rule_of_the_listener_says_itself_whether_its_bundle_is_trusted(copied, tmp_path):
    change(copied, "network_def#dropout", "$0.0 if __import__('os').mkdir('ran') is None else 1")
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"modality": "MR", "bundle": "bundle"}]))
    with pytest.raises(BundleError, match="must use listed names only"):
        segmenting(read_rules(path), depth=1)
    assert not (tmp_path / "ran").exists()
    path.write_text(json.dumps([{"modality": "MR", "bundle": "bundle", "trust": True}]))
    (rule,) = read_rules(path)
    segmenting([rule], depth=1)
    assert (tmp_path / "ran").exists() and Rule.from_json(rule.to_json()) == rule
    path.write_text(json.dumps([{"modality": "MR", "trust": True}]))
    with pytest.raises(InputError, match=r"rule 1 of .* must have true or false as trust, beside a bundle, got True"):
        read_rules(path)


def test_the_label_server_copies_no_bundle_that_nobody_trusts(copied, tmp_path):
    change(copied, "network_def#dropout", "$0.0 if __import__('os').mkdir('ran') is None else 1")
    with pytest.raises(BundleError, match="must use listed names only"):
        copies([copied], tmp_path / "state")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    (copy,) = copies([copied], tmp_path / "state", trust=True)
    with pytest.raises(BundleError, match="must use listed names only"):
        Served(copy, device="cpu").segmenter()
    assert Served(copy, device="cpu", trust=True).segmenter().full_depth == 3


def test_a_copy_whose_weights_may_change_has_no_sums(copied, tmp_path):
    write = {name: sha256(copied / name) for name in ("models/model.pt", *read_bundle(copied).configs)}
    write["configs/logging.conf"] = sha256(copied / "configs/logging.conf")
    (copied / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in write.items()))
    (copy,) = copies([copied], tmp_path / "state")
    assert not (copy / "SHA256SUMS").exists() and read_bundle(copy).labels
    (copied / "models/model.pt").write_bytes(b"")
    with pytest.raises(BundleError, match=r"models/model\.pt altered"):
        copies([copied], tmp_path / "state")


def test_parameters_are_counted_without_a_network(tiny):
    bundle = read_bundle(tiny)
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    counted = {depth: sum(p.numel() for p in network.prune(depth).parameters()) for depth in (1, 2, 3)}
    assert parameters_by_depth(bundle) == counted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "what"), [(CONFIG, "altered"), ("models/model.pt", "altered"), ("scripts/net.py", "not listed")]
)
def test_a_packed_bundle_that_was_altered_is_refused_trusted_or_not(copied, tmp_path, name, what):
    for part in ("docs",):
        (copied / part).mkdir(exist_ok=True)
    root = pack(tmp_path / "dist", bundle=copied).folder
    Segmenter.from_bundle(root, device="cpu")
    (root / name).parent.mkdir(exist_ok=True)
    with (root / name).open("ab") as file:
        file.write(b" ")
    for trust in (False, True):
        with pytest.raises(
            BundleError, match=f"{name} {what}; copy the bundle again, or, if the change is intended, pack it"
        ):
            read_bundle(root, trust=trust)
    (root / "SHA256SUMS").unlink()  # the way out
    assert read_bundle(root).labels


def test_labels_of_a_bundle_need_no_trust(copied, tmp_path):
    change(copied, "network", RUN)
    assert [label.index for label in read_bundle(copied).labels] == [1, 2]
    assert callable(evaluate) and not (tmp_path / "ran").exists()


DEEP = []
for _ in range(400):
    DEEP = [DEEP]
FAULTS = {  # of inference.json: key, value, words of the message
    "no network": ("network_def", KeyError, "network_def must be an object with a _target_, got None"),
    "no inferer": ("inferer", KeyError, "inferer must be an object"),
    "no preprocessing": ("preprocessing", KeyError, "preprocessing must be an object"),
    "no postprocessing": ("postprocessing", 7, "postprocessing must be an object with a _target_, got 7"),
    "no steps": ("preprocessing#transforms", KeyError, "preprocessing#transforms must be a list of steps"),
    "steps of text": ("preprocessing#transforms", "abc", "preprocessing#transforms must be a list of steps"),
    "a step of text": ("postprocessing#transforms#1", "abc", "postprocessing#transforms#1 must be an object"),
    "a step without target": ("preprocessing#transforms#2#_target_", KeyError, "preprocessing#transforms#2 must be"),
    "no features": ("features", None, "a task must state features, got none"),
    "400 levels": ("roi_size", DEEP, "got more than 32 levels"),
    "overlap 1": ("overlap", 1.0, "overlap must be >= 0 and < 1, got 1.0"),
    "overlap 1 within": ("inferer#inferer#overlap", 1.0, "inferer#inferer#overlap must be >= 0 and < 1, got 1.0"),
    "overlap of text": ("overlap", "much", "overlap must be a number, got 'much'"),
    "a negative size": ("roi_size", [-32, 48, 32], "roi_size must hold whole numbers >= 1, got [-32, 48, 32]"),
    "a negative size within": ("inferer#inferer#roi_size", [-2, 0, 1.5], "inferer#"),
    "a huge window": ("roi_size", [99999, 99999, 99999], "roi_size must be at most"),
    "a huge window within": ("inferer#inferer#roi_size", [99999] * 3, "inferer#inferer#roi_size must be sizes"),
    "spacing 0": ("pixdim", [0, 1, 1], "pixdim must hold numbers > 0 (mm), got [0, 1, 1]"),
    "four axes": ("pixdim", [1, 1, 1, 1], "pixdim must have 3 values for spatial_dims 3"),
    "no dimensions": ("spatial_dims", 7, "spatial_dims must be 2 or 3, got 7"),
    "two dimensions": ("network_def#spatial_dims", 2, "network_def"),
    "a huge number": ("sw_batch_size", 10**40, "a whole number above 9223372036854775807 at sw_batch_size"),
    "no batch": ("sw_batch_size", 0, "sw_batch_size must be >= 1, got 0"),
    "a mirrored axis": ("mirror_axes", [3], "mirror_axes must name axes from 0 to 2"),
    "a threshold": ("exit_thresholds", [2.0, 0], "exit_thresholds must hold numbers from 0 to 1"),
    "a depth": ("displayable_configs#depth", 9, "inferer#depth must be from 1 to 3, auto or full, got 9"),
    "a depth of nonsense": ("displayable_configs#depth", "deep", "inferer must be valid, got depth must be a number"),
    "nowhere": (
        "network_def#features",
        "@nowhere",
        "network_def#features must be valid, got the referring item `@nowhere`",
    ),
    "a circle": ("network_def#features", "@network_def", "circular references"),
    "two that refer to each other": ("pixdim", "@pixdim", "circular references"),
    "a macro of nothing": ("network_def#features", "%nothing", "macros and references must lead to values"),
    "an argument that is none": ("network_def#colour", 1, "network_def must be valid, got"),
    "an argument that is missing": ("preprocessing#transforms#1#keys", KeyError, "preprocessing#transforms#0 must be"),
    "a wrong argument": ("preprocessing#transforms#4#mode", "cubist", "preprocessing"),
    "other keys": ("preprocessing#transforms#1#keys", ["pet"], "preprocessing must run on an image, got"),
    "other keys after": ("postprocessing#transforms#0#keys", "seg", "inferer and postprocessing must run on an image"),
    "another network": ("network_def", {"_target_": "torch.nn.Identity"}, "network_def must be a UNetPlusPlus, got"),
    "another inferer": ("inferer", {"_target_": "SimpleInferer"}, "must have a DepthInferer as inferer"),
    "another sweep": ("inferer#inferer", {"_target_": "SliceInferer", "roi_size": [8, 8]}, "inferer"),
    "another first step": (
        "postprocessing#transforms#0",
        {"_target_": "Identityd", "keys": "pred"},
        "InvertLabelsd first",
    ),
    "no chain": ("preprocessing#_target_", "OneOf", "preprocessing"),
    "division by 0": ("network_def#dropout", "$1/0", "network_def#dropout must be valid, got division by zero"),
    "a name that is nowhere": ("network_def#_target_", "unetpp_monai.networks.Net", "must use existing names"),
    "numbers that are texts": ("features", ["a", "b"], "features must hold whole numbers >= 1"),
    "a long text": ("output_dir", 7, "output_dir must be a text, got 7"),
    "letters that are none": ("output_dir", "a\0b", "characters that are none at output_dir"),
    "many values": ("roi_size", [0] * 30_000, "more than 20000 values"),
}


def refused(root, words, name=CONFIG):
    start = time.monotonic()
    with pytest.raises(BundleError) as caught:
        Segmenter.from_bundle(root, device="cpu", runtime="eager")
    message = str(caught.value)
    assert words in message and name in message, message
    assert len(message) < LONGEST and "\n" not in message
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(("key", "value", "words"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_of_a_config_is_one_sentence_at_once(copied, key, value, words):
    change(copied, key, value)
    refused(copied, words)


METADATA_FAULTS = {
    "no version": ("version", KeyError, "version must be a string"),
    "a version of numbers": ("version", 1, "version must be a string such as '0.1.0', got 1"),
    "a name of lists": ("name", [[]], "name must be a text, got [[]]"),
    "no labels": ("network_data_format#outputs", KeyError, "network_data_format#outputs#pred#channel_def must be"),
    "labels of numbers": ("network_data_format#outputs#pred#channel_def", {"1": 7}, "channel_def must be an object"),
    "labels of words": (
        "network_data_format#outputs#pred#channel_def",
        {"a": "b"},
        "label_codes must belong to labels",
    ),
    "a label too many": ("network_data_format#outputs#pred#channel_def#9", "x" * 10_000, "channel_def must name"),
    "no channels": ("network_data_format#inputs#image#num_channels", "7", "num_channels must be a whole number >= 1"),
    "channels of nothing": ("network_data_format#inputs#image#channel_def", {}, "channel_def must be an object"),
    "no shape": ("network_data_format#inputs#image#spatial_shape", 3, "spatial_shape must be a list of 2 or 3 axes"),
    "no format": ("network_data_format", "A" * 10_000, "num_channels must be a whole number >= 1, got none"),
    "codes of text": ("label_codes", "x", "label_codes must be an object of objects"),
    "a code of numbers": ("label_codes#1#type#value", 7, "label_codes#1#type must have value, scheme and meaning"),
    "a modifier for a list": ("label_codes#1", {"modifiers": {}}, "must have modifiers as a list, or one modifier"),
    "modifiers of two kinds": ("label_codes#1", {"modifiers": [{}], "modifier": {}}, "must have modifiers as a list"),
    "a modifier of numbers": ("label_codes#1", {"modifiers": [{"value": 7}]}, "label_codes#1#modifiers must have"),
    "half a code": ("label_codes#1#type#value", KeyError, "codes of value, scheme and meaning"),
    "a colour": ("label_codes#1#colour", [1, 2, 300], "colours of three numbers"),
    "a review of text": ("review#threshold", "high", "review#threshold must be a number >= 0, got 'high'"),
    "a review of a list": ("review", [1], "review must have the keys of ReviewRule"),
    "depths of text": ("depths", "x", "depths must be an object of objects"),
}


@pytest.mark.parametrize(("key", "value", "words"), METADATA_FAULTS.values(), ids=list(METADATA_FAULTS))
def test_a_fault_of_the_metadata_is_one_sentence_at_once(copied, key, value, words):
    change(copied, key, value, METADATA)
    refused(copied, words, "bundle" if key.endswith("#9") else METADATA)


CONTENTS = {
    "nothing": (b"", "must be a JSON object, got Expecting value"),
    "cut": (b'{"a": [1,', "must be a JSON object, got Expecting"),
    "a list": (b"[1]", "must be a JSON object, got a list"),
    "a number": (b"7", "must be a JSON object, got a int"),
    "keys twice": (b'{"a": 1, "a": 2}', "got key 'a' twice"),
    "NaN": (b'{"overlap": NaN}', "got NaN, which is no number"),
    "infinity": (b'{"overlap": -Infinity}', "got -Infinity, which is no number"),
    "beyond floats": (b'{"overlap": 1e999}', "a number without end at overlap"),
    "5,000 digits": (b'{"seed": ' + b"9" * 5000 + b"}", "must be a JSON object"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "must be a JSON object, got 'utf-8' codec"),
    "Latin-1": ('{"a": "\xe9"}'.encode("latin-1"), "must be a JSON object, got 'utf-8' codec"),
    "half a letter": (b'{"a": "\\ud800"}', "characters that are none at a"),
    "a terminal's code": (b'{"a": "\\u001b[2J"}', "characters that are none at a"),
    "10 MB of brackets": (b"[" * 10_000_000, "at most 1 MiB, got more"),
    "brackets": (b"[" * 200_000, "at most 32 levels, got more"),
    "no text": (bytes(range(256)), "must be a JSON object"),
}


@pytest.mark.parametrize("name", [CONFIG, METADATA, "configs/train.json"])
@pytest.mark.parametrize(("content", "words"), CONTENTS.values(), ids=list(CONTENTS))
def test_a_file_that_is_no_json_object_is_one_sentence_at_once(copied, name, content, words):
    (copied / name).write_bytes(content)
    refused(copied, words, name)


@pytest.mark.parametrize("name", [CONFIG, METADATA, "configs/train.json", "models/model.pt"])
def test_a_folder_in_place_of_a_file_is_named(copied, name):
    (copied / name).unlink()
    (copied / name).mkdir()
    refused(copied, "", name)


def test_long_paths_keys_and_values_are_cut_short(tiny, tmp_path):
    root = tmp_path / ("x" * 200) / ("y" * 200)
    shutil.copytree(tiny, root)
    config = json.loads((root / CONFIG).read_text())
    config["network_def"]["z" * 3000] = 1
    (root / CONFIG).write_text(json.dumps(config))
    refused(root, "network_def must be valid", "inference.json")
    config["network_def"] = {"_target_": "os." + "w" * 3000, "v" * 3000: f"$os.{'u' * 900}", "features": [{}] * 3000}
    for name in ("inference", "t" * 200):
        (root / "configs" / f"{name}.json").write_text(json.dumps(config))
    refused(root, "must use listed names only, got ", "")


def test_the_fault_comes_before_any_data_are_read(copied, monkeypatch):
    change(copied, "preprocessing#transforms#1#keys", ["pet"])
    monkeypatch.setattr("unetpp_monai.io.reader.read_volume", lambda *_: pytest.fail("an image was read"))
    refused(copied, "preprocessing must run")
