"""What a bundle's configs may name without being trusted: attacks are found in their text, our own configs pass."""

import json
import warnings
from pkgutil import resolve_name

import pytest
from helpers import ROOT

from unetpp_monai.bundle.configs import foreign_in, read_configs
from unetpp_monai.bundle.writing import merge_values
from unetpp_monai.moved_names import rename_moved
from unetpp_monai.task import CONFIGS, base_config
from unetpp_monai.trust import foreign
from unetpp_monai.trust import names as trusted_names
from unetpp_monai.trust.expressions import LONGEST

MAIN = "configs/inference.json"
BASE = base_config("inference")
MKDIR = "os.mkdir('ran')"
EXPRESSIONS = {  # what is written -> a word of what is named
    "$__import__('os').mkdir('ran')": "__import__",
    "$os.mkdir('ran')": "os.mkdir",
    "$os.system('mkdir ran')": "os.system",
    "$open('ran', 'w').close()": "open",
    "$eval('1')": "eval",
    "$exec('import os')": "exec",
    "$compile('1', 'x', 'eval')": "compile",
    "$getattr(os, 'mkdir')('ran')": "getattr",
    "$().__class__.__base__.__subclasses__()": "__class__",
    "$[].__class__": "__class__",
    "$(lambda: 0).__globals__": "__globals__",
    "$monai.utils.os.system('mkdir ran')": "monai.utils.os.system",
    "$torch.os.mkdir('ran')": "torch.os.mkdir",
    "$np.os.mkdir('ran')": "numpy.os.mkdir",
    "$torch.hub.load('x', 'y')": "torch.hub.load",
    "$torch.load('models/model.pt', weights_only=False)": "torch.load",
    "$np.load('x.npy', allow_pickle=True)": "numpy.load",
    "$torch.utils.cpp_extension.load('x', ['x.cpp'])": "cpp_extension",
    "$torch.ops.load_library('x.so')": "torch.ops.load_library",
    "$torch.classes.load_library('x.so')": "torch.classes.load_library",
    "$monai.bundle.run(config_file='x.json')": "monai.bundle.run",
    "$monai.bundle.ConfigParser({'a': '$1'}).get_parsed_content('a')": "monai.bundle.ConfigParser",
    "$monai.apps.download_url('http://127.0.0.1:9/x', 'ran')": "monai.apps.download_url",
    "$monai.utils.optional_import('os')[0].mkdir('ran')": "optional_import",
    "$monai.utils.module.locate('os.mkdir')('ran')": "locate",
    "$torch.save({}, 'ran')": "torch.save",
    "$@imports#0.mkdir('ran')": "attribute mkdir",
    "$@imports#0.system('mkdir ran')": "attribute system",
    "$@device.__class__": "__class__",
    "$[x for x in [os]][0].mkdir('ran')": "os",
    "$[f('ran') for f in [len]]": "call of the argument f",
    "$(lambda f: f('ran'))(os.mkdir)": "call of",
    "$(lambda a=os.mkdir: a)": "lambda",
    "$(lambda *a: a)": "lambda",
    "$(x := os)": "NamedExpr",
    "$'{0.__class__}'.format(1)": "format",
    "$f'{os.mkdir(str(1))}'": "os.mkdir",
    "$f'{1:>1000000000}'": "a format",
    "$'%1000000000d' % 1": "a format",
    "$9**9**8": "operator Pow",
    "$1 << 10**9": "operator LShift",
    "$' ' * 10000000000": "a whole number above",
    "$[0] * 999999 * 999999": "a product of products",
    "$[0 for a in range(99999) for b in range(99999)]": "a nested loop",
    "$os.environ['HOME']": "os.environ",
    "$os.environ": "os.environ",
    "$dict(**@displayable_configs)": "argument **",
    "$find_cases(*[1])": "Starred",
    "$torch.distributed.init_process_group(init_method='tcp://127.0.0.1:9', backend='gloo')": "init_method",
    "$__local_refs": "__local_refs",
    "$import subprocess": "import of subprocess",
    "$import os; os.mkdir('ran')": "more than one import",
    "$import os, subprocess": "more than one import",
    "$from os import system": "import of os.system",
    "$from monai.utils import os as o": "import of monai.utils.os",
    "$from scripts.net import Net": "import of scripts.net.Net",
    "$from . import net": "a relative import",
    "$import monai.bundle": "import of monai.bundle",
    "$[": "not a Python expression",
    "$'@device + __import__": "not a Python expression",
    "$" + "(" * 900: "not a Python expression",
    "$1" + "+1" * LONGEST: "more than",
    "%/etc/secrets.json": "a macro of another file",
    "%train.yaml#x": "a macro of another file",
}
PARTS = {  # of a config that names a component -> a word of what is named
    json.dumps(part): named
    for part, named in (
        ({"_target_": "os.mkdir", "path": "ran"}, "os.mkdir"),
        ({"_target_": "subprocess.call", "args": ["mkdir", "ran"]}, "subprocess.call"),
        ({"_target_": "builtins.eval"}, "builtins.eval"),
        ({"_target_": "scripts.net.Net"}, "scripts.net.Net"),
        ({"_target_": "monai.utils.os.mkdir"}, "monai.utils.os.mkdir"),
        ({"_target_": "monai.bundle.ConfigWorkflow"}, "monai.bundle.ConfigWorkflow"),
        ({"_target_": "run"}, "run"),
        ({"_target_": "download_url", "url": "http://127.0.0.1:9/"}, "download_url"),
        ({"_target_": "torch.hub.load"}, "torch.hub.load"),
        ({"_target_": "PersistentDataset", "cache_dir": "."}, "PersistentDataset"),
        ({"_target_": "TorchVisiond", "keys": "image", "name": "os"}, "TorchVisiond"),
        ({"_target_": "$os.mkdir"}, "os.mkdir"),
        ({"_target_": "@displayable_configs#depth"}, "displayable_configs"),
        ({"_target_": "%depth"}, "%depth"),
        ({"_target_": ["Compose"]}, "Compose"),
        ({"_target_": "unetpp_monai.__main__.main"}, "unetpp_monai.__main__.main"),
        ({"_target_": "unetpp_monai.files.shutil.rmtree"}, "shutil.rmtree"),
        ({"_target_": "Compose", "_mode_": "debug"}, "mode debug"),
        ({"_target_": "Compose", "_mode_": "$'debug'"}, "mode $'debug'"),
        ({"_target_": "Compose", "_debug_": True}, "argument _debug_"),
        ({"_target_": "Compose", "_disabled_": f"$os.{MKDIR}"}, "os.os.mkdir"),
        ({"_target_": "Compose", "_requires_": [f"${MKDIR}"]}, "os.mkdir"),
        ({"_target_": "LoadImaged", "keys": "image", "reader": "os.mkdir", "path": "ran"}, "os.mkdir"),
        ({"_target_": "LoadImaged", "keys": "image", "reader": "@depth"}, "@depth"),
        ({"_target_": "LoadImaged", "keys": "image", "reader": "$VolumeReader() and 'os.mkdir'"}, "VolumeReader() and"),
        ({"_target_": "LoadImaged", "keys": "image", "reader": ["ITKReader", "os.mkdir"]}, "os.mkdir"),
        ({"_target_": "LoadImaged", "keys": "image", "allow_pickle": True}, "allow_pickle"),
        ({"_target_": "SaveImaged", "keys": "pred", "writer": "os.mkdir"}, "os.mkdir"),
        ({"reader": "os.mkdir"}, "os.mkdir"),
        ({"_target_": ""}, "nothing"),
        ({"_target_": "CheckpointSaver", "save_dir": "/home"}, "a folder to write into, /home"),
        (
            {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "final_filename": "../x.pt"},
            "a file's name, ../x.pt",
        ),
        ({"_target_": "TensorBoardStatsHandler", "log_dir": "$'/home'"}, "a folder to write into"),
    )
}


def with_part(part):
    return {MAIN: {**BASE, "more": part}}


@pytest.mark.parametrize(("text", "named"), EXPRESSIONS.items())
def test_an_attack_in_an_expression_is_named(text, named):
    with warnings.catch_warnings(action="error"):
        found = list(foreign(with_part({"a": ["sound", text]}), main=MAIN))
    assert any(one.key == "more#a#1" and one.file == MAIN and named in one.what for one in found), found
    assert all(len(str(one)) < 250 for one in found)


@pytest.mark.parametrize(("part", "named"), PARTS.items())
def test_an_attack_in_a_component_is_named(part, named):
    found = list(foreign(with_part([json.loads(part)]), main=MAIN))
    assert any(one.key.startswith("more#0") and named in one.what for one in found), found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network_def#_target_", "os.mkdir"),
        ("preprocessing#transforms#0#reader", "os.mkdir"),
        ("network_def::_mode_", "debug"),
        ("+network_def#_target_", "os.mkdir"),
    ],
)
def test_a_key_that_is_a_path_counts_as_what_it_leads_to(key, value):
    assert [one.key for one in foreign({MAIN: BASE, "configs/evaluate.json": {key: value}}, main=MAIN)] == [key]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network_def", {"_target_": "CheckpointSaver", "save_dir": "ran"}),
        ("inferer", "@evaluator"),
        ("preprocessing", {**BASE["preprocessing"], "transforms": [{"_target_": "Compose", "transforms": "@writers"}]}),
        ("postprocessing", {"_target_": "Compose", "transforms": [{"_target_": "SaveImageD", "keys": "pred"}]}),
        ("postprocessing", {"_target_": "Compose", "transforms": ["@evaluator#val_handlers"]}),
        ("postprocessing", {"_target_": "Compose", "transforms": ["%evaluator"]}),
        ("postprocessing", {"_target_": "Compose", "transforms": ["@###evaluator"]}),
        ("inferer", "$@"),
    ],
)
def test_what_segments_reaches_nothing_that_writes(key, value):
    writers = [{"_target_": "TensorBoardStatsHandler", "log_dir": "ran"}]
    found = list(foreign({MAIN: {**BASE, "writers": writers, key: value}}, main=MAIN))
    assert any(one.what.endswith("in the segmentation") or "SaveImageD" in one.what for one in found), found


def test_a_name_that_means_two_things_is_named():
    found = list(foreign({MAIN: {**BASE, "imports": [*BASE["imports"], "$import glob as os"]}}, main=MAIN))
    assert [(one.key, one.what) for one in found] == [("dataset#data", "os, which is both glob and os")]
    assert list(foreign({MAIN: BASE, "configs/train.json": {"imports": ["$import glob as os"]}}, main=MAIN)) == []


def test_what_segments_has_no_keys_that_are_paths():
    config = {"network_def::dropout": {"_target_": "TensorBoardStatsHandler", "log_dir": "@output_dir"}, **BASE}
    assert [one.key for one in foreign({MAIN: config}, main=MAIN)] == ["network_def::dropout"]


def test_a_relative_reference_that_a_macro_moves_is_named():
    part = {"a": {"x": "@##y"}, "y": 1, "b": "%more#a"}
    assert [one.key for one in foreign(with_part(part), main=MAIN)] == ["more#a#x"]
    assert not list(foreign(with_part({**part, "b": 0}), main=MAIN))


SOUND = [
    "$[2] * @spatial_dims",
    "$@network.parameters()",
    "$None if len(@dataset) else find_cases(@dataset_dir)",
    "$lambda x: torch.where(x > 0, 1, 0)",
    "$[{'image': case} for case in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))]",
    "$from torch import nn",
    "$import monai.transforms as mt",
    "$monai.handlers.from_engine(['pred', 'label'])",
    "$f'cuda:{os.environ[\"LOCAL_RANK\"]}'",
    "$@a#b[0]['x'] - 1 if @a is not None and 'b' in @a else -0.5",
    "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "%network_def",
    "an e-mail: a@b.c, 100 %, $ 5",
]


@pytest.mark.parametrize("text", SOUND)
def test_what_segmentation_bundles_use_passes(text):
    imports = ["$import glob", "$import os"]
    text = text if text.startswith(("$", "%")) else f" {text}"
    assert list(foreign({MAIN: {**BASE, "imports": [*BASE["imports"], *imports], "more": text}}, main=MAIN)) == []


def test_a_bundle_of_monais_zoo_passes():
    """Structure of its spleen segmentation, in other words: UNet, MONAI's own transforms, training beside it."""
    chain = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1},
    ]
    after = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ]
    config = {
        "imports": ["$import glob", "$import os"],
        "datalist": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'imagesTs', '*.nii.gz'))))",
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "network_def": {"_target_": "UNet", "spatial_dims": 3, "channels": [16, 32], "norm": "batch"},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": chain},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "overlap": 0.5},
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "evaluator": {"_target_": "SupervisedEvaluator", "inferer": "@inferer", "device": "@device"},
        "evaluating": ["$@evaluator.run()"],
    }
    assert list(foreign({MAIN: config}, main=MAIN)) == []


@pytest.mark.parametrize("root", [ROOT / "bundle", *sorted((ROOT / "tests" / "bundles").glob("*/"))], ids=str)
def test_our_bundles_pass(root):
    assert foreign_in(root, read_configs(root)) == ()


@pytest.mark.parametrize("task", sorted(path.parent.name for path in (ROOT / "configs").glob("*/task.json")))
def test_every_config_of_every_task_passes(task):
    values = json.loads((ROOT / "configs" / task / "task.json").read_text())
    configs = {f"configs/{name}.json": merge_values(base_config(name), values) for name in CONFIGS}
    configs["configs/metadata.json"] = json.loads((ROOT / "configs" / task / "metadata.json").read_text())
    assert list(foreign(configs, main=MAIN)) == []
    assert list(foreign({name: rename_moved(config) for name, config in configs.items()}, main=MAIN)) == []


def test_the_list_leads_to_what_exists_and_to_no_other_module():
    from monai import data, transforms

    packages = {name.split(".")[0] for name in (*trusted_names.FULL, *trusted_names.CALLABLE, *trusted_names.VALUES)}
    assert packages == {"glob", "ignite", "math", "monai", "numpy", "os", "torch", "unetpp_monai"}
    for package, names in trusted_names.COMPONENTS.items():
        for name in names.split():
            assert resolve_name(f"{package}.{name}").__module__.startswith("monai.")
    for name in trusted_names.TRANSFORMS:
        assert any(hasattr(transforms, f"{name}{form}") for form in trusted_names.FORMS), name
    names = (*trusted_names.FULL, *trusted_names.CALLABLE, *trusted_names.VALUES, *trusted_names.READERS)
    assert all(resolve_name(name) is not None for name in names)
    classes = [name for names in trusted_names.CLASSES.values() for name in names]
    assert all(hasattr(data, name) or resolve_name(name) for name in classes)
