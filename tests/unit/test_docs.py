"""What docs/ makes of committed files."""

import importlib.util
import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import typer
from helpers import ROOT

import unetpp_monai
from unetpp_monai import errors
from unetpp_monai.cli import app
from unetpp_monai.dicom import deidentify, planes, rtstruct, seg, seg_reader, sr
from unetpp_monai.dicom.common import CHARACTER_SET
from unetpp_monai.pacs import dicomweb, dimse
from unetpp_monai.pacs.limits import Limits
from unetpp_monai.task import CONFIGS, OPTIONAL, base_config
from unetpp_monai.task_rules import value_types

FIXED = (  # keys of metadata.json that are the base's, and not for a task to state
    "schema",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
)


def script(name):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figure_and_tables_show_the_committed_numbers():
    made = script("figures").made()
    for path, text in made.items():
        assert path.read_text() == text, f"{path} must be what `python docs/figures.py` writes"
    assert sum("| auto | as needed | " in text for text in made.values()) == 3
    assert sum(path.suffix == ".svg" for path in made) == 4
    assert sum(text.count("<!-- table: ") for text in made.values()) == len([*results()])


def results():
    return (ROOT / "benchmarks" / "results").glob("*.json")


def test_a_table_has_the_numbers_of_its_file_and_no_others(tmp_path, monkeypatch):
    figures = script("figures")
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    rows = [{"a": "x", "b": 0.5, "c": {"1": 8}}, {"a": "", "b": 0.25, "c": 3}]
    (tmp_path / "table.json").write_text(json.dumps(rows))
    figures.take("new", tmp_path / "table.json")
    page = "one\n\n<!-- table: new -->\n\n| old |\n|---|\n| 7 |\n\ntwo\n"
    table = "| a | b | c |\n| --- | --- | --- |\n| x | 0.50 | {1: 8} |\n|  | 0.25 | 3 |\n"
    assert figures.with_tables(page) == f"one\n\n<!-- table: new -->\n\n{table}\ntwo\n"


def test_a_chart_has_a_point_for_each_number():
    drawn = script("charts").chart(
        {"a": [(1.0, 2.0, "here", 0.0), (2.0, 3.0, "", 0.5)]},
        ("x", "y"),
        ((0, 3), (0, 4)),
        ([1], [2]),
        marks={"m": 2.5},
    )
    assert drawn.count("r='5'") == 3 and ">here</text>" in drawn and ">m</text>" in drawn  # two, and the key's


@pytest.mark.parametrize("levels", [2, 5])
def test_every_node_and_depth_is_drawn(levels):
    row = {"Dice anterior": 0.5, "Dice posterior": 0.5, "relative time": 1.0}
    drawn = script("figures").network_svg([16] * levels, {str(depth): row for depth in range(1, levels)})
    assert drawn.count("r='22'") == levels * (levels + 1) // 2
    assert drawn.count("Dice 0.500") == levels - 1


@pytest.fixture(scope="module")
def reference():
    return script("reference")


def leaves(command, path="unetpp"):
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def test_every_option_is_in_the_reference(reference):
    page = reference.commands()
    for path, command in leaves(typer.main.get_command(app)):
        section = page.split(f"\n## {path}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"`{option}`" in section for option in parameter.opts), (path, parameter.opts)


def test_every_key_of_a_report_and_a_bundle_is_in_the_reference(reference):
    package = ROOT / "unetpp_monai"
    page = reference.report()
    for key in json.loads((package / "report.schema.json").read_text())["properties"]:
        assert f"\n| `{key}` |" in page
    page = reference.bundle_keys()
    for task in ("hippocampus", "hippocampus_head", "nuclei_2d"):
        for key in json.loads((ROOT / "configs" / task / "task.json").read_text()):
            assert f"\n| `{key}` |" in page, key
    assert "\n| `features` | required | Channels of each level" in page
    assert '\n| `depth` | `"full"` | Depth of the network' in page


def test_every_key_has_one_meaning(reference):
    """Those that are meant are those that exist: of the base, and of metadata that a task may state."""
    schema = json.loads((ROOT / "unetpp_monai" / "task.schema.json").read_text())
    keys = {key for name in CONFIGS for key in value_types(base_config(name))}
    stated = schema["$defs"]["metadata"]["properties"]
    assert set(schema["properties"]) == keys
    assert set(stated) == {*base_config("metadata"), *OPTIONAL} - set(FIXED)
    for key, value in (schema["properties"] | stated).items():
        assert value["description"].endswith("."), key


def test_every_key_of_a_report_has_a_meaning(reference):
    for line in reference.report().splitlines():
        assert not re.search(r"\|\s*(Not in every report\.)?\s*\|$", line) or "---" in line, line


def test_every_public_name_is_in_the_reference(reference):
    page = reference.python()
    for name in set(unetpp_monai.__all__) - {"UnetppError"}:
        assert re.search(rf"^\.\. auto(class|function):: unetpp_monai\.{name}$", page, re.MULTILINE), name


def test_every_error_is_in_the_reference(reference):
    page = reference.error_page()
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type)]
    assert len(kinds) > 10 and all(f"`{name}`: " in page for name in kinds)


def test_the_conformance_page_says_what_the_code_does():
    page = (ROOT / "docs" / "conformance.md").read_text()
    for syntax in (*dimse.NATIVE, *dimse.COMPRESSED):
        assert re.search(rf"^\|.*\b{re.escape(syntax)}\b.*\| yes \|$", page, re.MULTILINE), syntax
    for uid, name in seg_reader.SEGMENTATIONS.items():
        assert f"{name}, {uid}" in page and re.search(rf"^\| {name}.* \| {re.escape(uid)} \|", page, re.MULTILINE)
    offsets = (seg.SERIES_OFFSET, seg.SERIES_OFFSET, sr.SERIES_OFFSET, rtstruct.SERIES_OFFSET)
    assert tuple(map(int, re.findall(r"that of the source \+ (\d+)", page))) == offsets
    assert all(keyword in page for keyword in planes.REQUIRED) and CHARACTER_SET in page
    limits = Limits()
    assert f"At most {limits.associations} associations, {limits.per_peer} from one address" in page
    assert f"idle for {limits.idle_seconds:g} s" in page and limits.object_bytes == 1 << 30
    megabytes, instances = re.search(r"at most (\d+) MiB or (\d+) instances a request", page).groups()
    assert int(megabytes) << 20 == dicomweb.BATCH_BYTES and int(instances) == dicomweb.BATCH_INSTANCES
    assert f"({deidentify.PROFILE[0]})" in page and f"({deidentify.RETAIN_UIDS[0]})" in page


def test_every_card_is_a_page_of_the_manual(reference):
    index = (ROOT / "docs" / "index.md").read_text()
    cards = reference.cards()
    assert len(cards) == 5 and all(f"\ngenerated/{name}\n" in index for name in cards)
    for text in cards.values():
        levels = [len(mark) for mark in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)]
        assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            assert (ROOT / "docs" / "generated" / picture).resolve().is_file()


def test_a_link_to_a_page_that_only_the_site_has_says_so():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines() if "](generated/" in line]
    assert len(lines) > 3 and all("`make docs`" in line for line in lines)
    readme = (ROOT / "README.md").read_text()
    assert all(f"](docs/{name}.md)" in readme for name in ("first_segmentation", "dicom_to_seg"))
    assert "unetpp doctor" in (ROOT / "docs" / "first_segmentation.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "link", ["[none](nowhere.md)", "[none](../nowhere.md)", "[none](segment.md#nothing-of-this-name)"]
)
def test_a_broken_link_fails_the_build(tmp_path, link):
    pytest.importorskip("furo", reason="pip install 'unetpp_monai[docs]'")
    pages = {"conf.py": (ROOT / "docs" / "conf.py").read_text(), "reference.py": "def write(folder): pass\n"}
    pages |= {"index.md": f"# Page\n\n[some](segment.md) {link}\n", "segment.md": "---\norphan: true\n---\n# Some\n"}
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "custom.css").touch()
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    build = ["-m", "sphinx", "-W", "-q", "-b", "html", str(tmp_path), str(tmp_path / "site")]
    result = subprocess.run([sys.executable, *build], capture_output=True, text=True)
    assert result.returncode != 0 and "xref_missing" in result.stderr
