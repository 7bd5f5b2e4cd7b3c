"""SHA256SUMS: what differs from it is named, what is data is not looked at."""

import hashlib

import pytest

from unetpp_monai.errors import BundleError
from unetpp_monai.trust.sums import SUMS, check_sums

FILES = {
    "configs/inference.json": b"{}",
    "models/model.pt": b"weights",
    "docs/README.md": b"words",
    "unetpp_monai/x.py": b"1",
}


@pytest.fixture
def root(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    write_sums(tmp_path, FILES)
    return tmp_path


def write_sums(root, files):
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    (root / SUMS).write_text("".join(lines))


def test_whole_bundles_pass_and_so_do_data_beside_them(root):
    check_sums(root, known={})
    for name in ("eval/case_seg.nii.gz", "data/imagesTs/a.nii.gz", "unetpp_monai/__pycache__/x.cpython-311.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    check_sums(root, known={})
    (root / "docs/README.md").unlink()  # nothing uses it
    check_sums(root, known={})
    (root / SUMS).unlink()
    (root / "configs/inference.json").write_bytes(b"[]")
    check_sums(root, known={})


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(root, name):
    (root / name).write_bytes(b"other")
    with pytest.raises(
        BundleError, match=f"{name} altered; copy the bundle again, or, if the change is intended, pack it again"
    ):
        check_sums(root, known={})


@pytest.mark.parametrize("name", ["configs/inference.json", "models/model.pt", "unetpp_monai/x.py"])
def test_a_missing_file_is_named(root, name):
    (root / name).unlink()
    with pytest.raises(BundleError, match=f"{name} missing"):
        check_sums(root, known={})


@pytest.mark.parametrize(
    "name",
    ["configs/train.json", "configs/a/b.yaml", "models/other.pt", "scripts/net.py", "net.py", "my_nets/__init__.py"],
)
def test_a_file_more_is_named(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"{}")
    with pytest.raises(BundleError, match=f"{name} not listed"):
        check_sums(root, known={})


def test_hashes_that_are_known_are_not_made_again(root):
    check_sums(root, known={"models/model.pt": hashlib.sha256(b"weights").hexdigest()})
    with pytest.raises(BundleError, match=r"models/model\.pt altered"):
        check_sums(root, known={"models/model.pt": "0" * 64})


def test_weights_that_others_replace_need_not_be_there(root):
    (root / "models/model.pt").unlink()
    check_sums(root, known={}, replaced="models/model.pt")


@pytest.mark.parametrize(
    "line",
    [
        "0123  configs/inference.json",
        f"{'0' * 64}  ../outside",
        f"{'0' * 64}  /etc/passwd",
        "rubbish",
        f"{'0' * 64}  models/model.pt",
        "x" * 5000,
    ],
)
def test_sums_that_are_none_are_refused(root, line):
    with (root / SUMS).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(BundleError, match="must list files of the bundle, each once") as caught:
        check_sums(root, known={})
    assert len(str(caught.value)) < 500


def test_sums_of_other_bytes_are_refused(root):
    (root / SUMS).write_bytes(b"\xff\xfe\0")
    with pytest.raises(BundleError, match="must be text"):
        check_sums(root, known={})
