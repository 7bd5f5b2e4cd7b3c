"""What the project promises and says of itself."""

import json
import re

import yaml
from helpers import ROOT
from helpers.changelog import HEAD, table
from helpers.public_api import FILE, current

from unetpp_monai import __version__


def test_public_names_and_options_are_those_listed():
    """If the change is meant: see docs/public_api.md, then run tests/helpers/public_api.py."""
    listed, found = json.loads(FILE.read_text()), current()
    for kind in ("names", "options"):
        assert list(listed[kind]) == list(found[kind])
        for place in found[kind]:
            assert listed[kind][place] == found[kind][place], place


def test_the_page_on_what_is_public_names_all_packages():
    page = (ROOT / "docs" / "public_api.md").read_text()
    for package in json.loads(FILE.read_text())["names"]:
        assert f"`{package.rpartition('.')[2]}`" in page


def test_the_citation_is_whole_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # which the format requires
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == __version__ and citation["license"] == "Apache-2.0"
    for entry in (citation, *citation["references"]):
        assert all({"name"} <= set(author) or {"family-names"} <= set(author) for author in entry["authors"])
    assert all({"type", "title", "authors"} <= set(entry) for entry in citation["references"])


def test_the_changelog_has_this_version_and_all_of_the_bundles():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert __version__ in text and text.partition(HEAD)[2] == table()


def test_hooks_and_workflow_run_what_the_makefile_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}  # nothing is downloaded
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks["repos"][0]["hooks"]:
        program = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(BIN)/{program}" in makefile
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text())["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {"make quick", ".ci/run"}
    systems = {row["system"]: row["tried"] for row in jobs["quick"]["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu-latest": True, "macos-latest": False, "windows-latest": False}


def test_the_quick_suite_is_the_same_without_make():
    chosen = re.search(r"^QUICK = (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for page in ("CONTRIBUTING.md", "pyproject.toml"):
        assert f'python -m pytest -m "{chosen}"' in (ROOT / page).read_text()


def test_paths_that_the_pages_for_contributors_name_exist():
    pages = ["CONTRIBUTING.md", *(f"docs/{page}.md" for page in ("architecture", "style", "public_api", "releasing"))]
    for page in pages:
        text = (ROOT / page).read_text()
        named = re.findall(r"`((?:unetpp_monai|tests|docs|configs)/[\w./]+)`", text)
        linked = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert [name for name in named if not (ROOT / name).exists()] == []
        assert [link for link in linked if not (ROOT / page).parent.joinpath(link).exists()] == []
