"""The extension's repository, split off as documented, keeps the rules of Slicer's Extensions Index.

The rules are those of the index's own check of descriptions at the time of writing; here without a network, so that a
URL must lead to a file of the repository instead of being fetched.
"""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import sys
import types

import pytest
from helpers import ROOT

SPLIT = ROOT / "unetpp_monai" / "slicer" / "split_extension.py"
URL = "https://example.org/someone/SlicerUNetPlusPlus"


def split_off(folder, url=URL):
    return subprocess.run([sys.executable, SPLIT, folder, url], capture_output=True, text=True)


def setting(lists, name):
    """What the one line of a CMake list sets, spelt as the index reads it; empty if it sets nothing."""
    found = re.search(rf'^set\(EXTENSION_{name} "([^"]+)"\)$', lists, re.MULTILINE)
    return found[1] if found else ""


def faults(repository, entry):
    """What the index would not take."""
    described, lists = json.loads(entry.read_text()), repository / "CMakeLists.txt"
    text = lists.read_text() if lists.is_file() else ""
    base, known = described["scm_url"].removesuffix(".git"), {"scm_revision", "scm_type", "build_dependencies", "tier"}
    required = {"$schema", "category", "scm_url"}
    rules = {
        "keys of the entry": required <= set(described) <= required | known,
        "schema": described["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.1.json#"),
        "tier": described.get("tier", 5) in (1, 3, 5),
        "category": described["category"] == setting(text, "CATEGORY") == "Segmentation",
        "scm_url": re.fullmatch(r"(git|https)://\S+/\S*[Ss]licer\S*", described["scm_url"]),
        "project": re.search(rf"^project\({entry.stem}\)$", text, re.MULTILINE),
        "license": any((repository / name).is_file() for name in ("LICENSE", "License.txt", "LICENSE.txt")),
        "homepage": setting(text, "HOMEPAGE") == base,
        "patents": re.search(r"patents: .*US \d+", setting(text, "DESCRIPTION")),
        **{name: pictures(repository, base, setting(text, name)) for name in ("ICONURL", "SCREENSHOTURLS")},
    }
    return [rule for rule, kept in rules.items() if not kept]


def pictures(repository, base, urls):
    """Whether there are addresses, and each leads to a PNG of the repository."""
    paths = [repository / url.removeprefix(f"{base}/raw/main/") for url in urls.split()]
    return bool(paths) and all(path.is_file() and path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.fixture
def extension(tmp_path):
    ended = split_off(tmp_path)
    assert ended.returncode == 0, ended.stderr
    repository, entry = tmp_path / "SlicerUNetPlusPlus", tmp_path / "UNetPlusPlus.json"
    assert ended.stdout.split() == [str(repository), str(entry)]
    return repository, entry


def test_extension_keeps_the_rules(extension):
    repository, _ = extension
    assert faults(*extension) == []
    assert (repository / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert not list(repository.rglob("split_extension.py")) + list(repository.rglob("__pycache__"))
    filled = [*repository.rglob("*.txt"), *repository.rglob("*.py")]
    assert not re.search(r"@\w[\w.]*@", "".join(path.read_text() for path in filled))


def test_samples_lie_where_the_module_says(extension):
    """Address, name and sum of what it registers in Slicer's Sample Data; the license comes along."""
    repository, _ = extension
    sources = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: sources.append(source))
    runpy.run_path(str(repository / "UNetPlusPlus" / "UNetPlusPlusLib" / "sample.py"))["register_samples"](logic)
    shipped = sorted(path.name for path in (ROOT / "unetpp_monai" / "sample").glob("*.nii.gz"))
    assert [source["fileNames"] for source in sources] == shipped
    for source in sources:
        path = repository / source["uris"].removeprefix(f"{URL}/raw/main/")
        assert source["checksums"] == f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert (path.parent / "LICENSE.txt").is_file()


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        ("LICENSE", "license"),
        ("Screenshots", "SCREENSHOTURLS"),
        ("UNetPlusPlus/Resources/Icons", "ICONURL"),
        ("CMakeLists.txt", "project"),
    ],
)
def test_the_check_sees_what_is_lost(extension, lost, fault):
    place = extension[0] / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert fault in faults(*extension)


@pytest.mark.parametrize("url", ["http://example.org/SlicerUNetPlusPlus", "https://example.org/unetpp"])
def test_the_index_would_refuse_the_url(tmp_path, url):
    ended = split_off(tmp_path, url)
    assert ended.returncode != 0
    assert f"the URL must be https://... and end with /SlicerUNetPlusPlus, got {url}" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_patents_are_stated_once_for_all():
    """The description's sentence is that of the extension's page and of the licence section."""
    description = setting((ROOT / "unetpp_monai" / "slicer" / "CMakeLists.txt").read_text(), "DESCRIPTION")
    sentence = re.search(r"Known related patents: [^.]*\.", description)[0]
    licence = (ROOT / "README.md").read_text().partition("## Licen")[2]
    for text in ((ROOT / "unetpp_monai" / "slicer" / "README.md").read_text(), licence):
        assert sentence in " ".join(text.split())
    assert re.findall(r"US [\d/]+", sentence) == ["US 11164067", "US 2020/0380695"]


def test_documentation_names_the_command():
    assert "python unetpp_monai/slicer/split_extension.py" in (ROOT / "docs" / "slicer.md").read_text()
