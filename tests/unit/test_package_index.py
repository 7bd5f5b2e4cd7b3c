"""What a package index shows: metadata, names of extras, a README whose links lead somewhere."""

import importlib.util
import re
import tomllib

from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = "![shown](docs/a.png) and [read](docs/a.md), [far](https://example.org/b.md), [below](#c)"


def long_description(source):
    spec = importlib.util.spec_from_file_location("setup_of_project", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.long_description(README, source)


def test_index_shows_no_link_to_a_file_of_the_checkout():
    kept = "[far](https://example.org/b.md), [below](#c)"
    assert long_description(None) == f" and read, {kept}"
    there = long_description("https://example.org/r")
    pictures = "![shown](https://example.org/r/raw/HEAD/docs/a.png)"
    assert there == f"{pictures} and [read](https://example.org/r/blob/HEAD/docs/a.md), {kept}"


def test_extras_that_texts_name_exist():
    texts = [path for folder in ("unetpp_monai", "docs") for path in (ROOT / folder).rglob("*.[pm][yd]")]
    named = {
        extra
        for path in texts
        for found in re.findall(r"unetpp_monai\[([\w,]+)\]", path.read_text())
        for extra in found.split(",")
    }
    assert {"dicom", "train"} <= named <= set(PROJECT["optional-dependencies"])
    assert {"dicom", "pacs", "fast", "train", "all"} <= set(PROJECT["optional-dependencies"])


def test_metadata_says_who_and_for_whom():
    assert PROJECT["authors"] and PROJECT["urls"]
    assert all(f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"] for minor in (11, 12, 13))
