"""Versions of weights beside a bundle: what is served is always complete, and nothing published ever changes."""

import json
import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import DEFAULT_BUNDLE
from helpers.waiting import DEADLINE

from unetpp_monai.annotation.version_store import VersionStore, WeightsOrigin, copy_bundle
from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import BundleError, OutputError
from unetpp_monai.files import sha256

SIZE = 300_000  # bytes of the stand-ins for weights


@pytest.fixture
def bundle(tmp_path):
    """A copy of the package's bundle whose weights are bytes that say which version they are."""
    root = copy_bundle(DEFAULT_BUNDLE, tmp_path / "hippocampus")
    (root / "models" / "model.pt").write_bytes(weights(0))
    return root


def weights(number):
    return random.Random(number).randbytes(SIZE)


def given(tmp_path, number):
    path = tmp_path / f"given_{number}"
    path.write_bytes(weights(number))
    return path


def test_copy_is_a_bundle_and_is_made_once(tmp_path):
    root = copy_bundle(DEFAULT_BUNDLE, tmp_path / "deep" / "hippocampus")
    assert read_bundle(root).weights_sha256 == read_bundle(DEFAULT_BUNDLE).weights_sha256
    (root / "models" / "model.pt").write_bytes(b"learned")
    assert copy_bundle(DEFAULT_BUNDLE, root) == root
    assert (root / "models" / "model.pt").read_bytes() == b"learned"
    assert [path.name for path in root.parent.iterdir()] == ["hippocampus"]


def test_copy_of_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"must hold configs/metadata.json"):
        copy_bundle(tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_the_packages_own_bundle_is_never_changed():
    with pytest.raises(BundleError, match="the package's own"):
        VersionStore(DEFAULT_BUNDLE)


def test_publish_serves_the_new_and_keeps_the_old(bundle, tmp_path):
    store = VersionStore(bundle)
    assert store.versions() == ()
    origin = WeightsOrigin("trained", 0.8, 0.9, 2, ("ab", "cd"), 3)
    version = store.publish(given(tmp_path, 1), origin)
    assert (version.number, version.parent, version.origin) == (2, 1, origin)
    assert (bundle / "models" / "model.pt").read_bytes() == weights(1)
    first, second = VersionStore(bundle).versions()
    assert first.origin == WeightsOrigin("found") and first.parent is None and first.weights.read_bytes() == weights(0)
    assert second == version == store.served()
    assert [path.name for path in (bundle / "models").iterdir()] == ["model.pt"]  # MONAI Label serves every other .pt


def record_of_0_5_2(bundle, number, parent, origin):
    """A version as package 0.5.2 wrote it, whose records named no schema."""
    folder = bundle / "versions" / str(number)
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(weights(number))
    digest = sha256(folder / "model.pt")
    record = {"date": "2025-11-01T12:00:00+00:00", "parent": parent, "weights_sha256": digest, "origin": origin}
    (folder / "version.json").write_text(json.dumps(record, indent=2))


def test_versions_of_older_packages_stay(bundle, tmp_path):
    counts = {"validation_cases": 2, "training_cases": ["ab", "cd"], "epochs": 3}
    record_of_0_5_2(bundle, 1, None, {"reason": "found", "dice_before": None, "dice_after": None, **counts})
    record_of_0_5_2(bundle, 2, 1, {"reason": "trained", "dice_before": 0.8, "dice_after": 0.9, **counts})
    (bundle / "models" / "model.pt").write_bytes(weights(2))
    store = VersionStore(bundle)
    assert store.served().origin == WeightsOrigin("trained", 0.8, 0.9, 2, ("ab", "cd"), 3)
    assert [version.number for version in store.versions()] == [1, 2]
    assert store.publish(given(tmp_path, 3), WeightsOrigin("trained")).parent == 2
    assert json.loads((bundle / "versions" / "3" / "version.json").read_text())["schema"] == 1
    assert store.rollback(1).number == 1 and (bundle / "models" / "model.pt").read_bytes() == weights(1)


def test_versions_of_newer_packages_are_refused_by_name(bundle, tmp_path):
    store = VersionStore(bundle)
    store.publish(given(tmp_path, 1), WeightsOrigin("trained"))
    path = bundle / "versions" / "2" / "version.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(BundleError, match=f"a schema up to 1, got 2 in {path}; update unetpp_monai"):
        store.served()
    assert (bundle / "models" / "model.pt").read_bytes() == weights(1)


def test_rollback_to_parent_and_forth(bundle, tmp_path):
    store = VersionStore(bundle)
    for number in (1, 2):
        store.publish(given(tmp_path, number), WeightsOrigin("trained"))
    assert store.rollback().number == 2 and store.rollback().number == 1
    assert (bundle / "models" / "model.pt").read_bytes() == weights(0)
    assert store.rollback(3).number == 3 == store.served().number
    assert store.publish(given(tmp_path, 3), WeightsOrigin("trained")).parent == 3
    assert len(store.versions()) == 4


def test_rollback_to_what_is_not_there(bundle, tmp_path):
    store = VersionStore(bundle)
    with pytest.raises(BundleError, match=r"must be one of \[1\], got one before version 1"):
        store.rollback()
    version = store.publish(given(tmp_path, 1), WeightsOrigin("trained"))
    with pytest.raises(BundleError, match=r"must be one of \[1, 2\], got version 7"):
        store.rollback(7)
    store.rollback()
    version.weights.write_bytes(b"changed")
    with pytest.raises(BundleError, match="another hash"):
        store.rollback(2)
    assert (bundle / "models" / "model.pt").read_bytes() == weights(0)


def test_weights_put_there_by_hand_become_a_version(bundle, tmp_path):
    store = VersionStore(bundle)
    store.publish(given(tmp_path, 1), WeightsOrigin("trained"))
    (bundle / "models" / "model.pt").write_bytes(weights(9))
    served = store.served()
    assert served.number == 3 and served.origin.reason == "found" and served.weights.read_bytes() == weights(9)


def test_two_at_once_get_different_numbers(bundle, tmp_path):
    files = [given(tmp_path, number) for number in range(1, 41)]
    VersionStore(bundle).served()
    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(lambda path: VersionStore(bundle).publish(path, WeightsOrigin("trained")), files))
    assert sorted(version.number for version in published) == list(range(2, 42))
    assert all(sha256(version.weights) == version.weights_sha256 for version in published)


def test_a_missing_weights_file_leaves_everything_as_it_was(bundle, tmp_path):
    store = VersionStore(bundle)
    store.served()
    with pytest.raises(OutputError, match="must be writable"):
        store.publish(tmp_path / "nothing", WeightsOrigin("trained"))
    assert len(store.versions()) == 1 and (bundle / "models" / "model.pt").read_bytes() == weights(0)
    assert sorted(path.name for path in store.folder.iterdir()) == ["1"]


def test_a_broken_record_is_named(bundle):
    store = VersionStore(bundle)
    store.served()
    (store.folder / "1" / "version.json").write_text("{")
    with pytest.raises(BundleError, match=r"version.json must be a valid record"):
        store.versions()


def publish_for_ever(root, files, started):
    store = VersionStore(root)
    started.set()
    while True:
        for path in files:
            store.publish(path, WeightsOrigin("trained"))
        store.rollback()


@pytest.mark.slow
def test_killed_at_any_moment(bundle, tmp_path):
    """What is served is whole, the records agree with the files, and the next publication works."""
    files = [given(tmp_path, number) for number in (1, 2)]
    whole = {sha256(path) for path in (*files, bundle / "models" / "model.pt")}
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["unetpp_monai.annotation.version_store"])
    moments, left = random.Random(0), set()
    give_up = time.monotonic() + DEADLINE
    while left != {"models", "versions"}:  # killed in the middle of either step at least once
        assert time.monotonic() < give_up, left
        started = processes.Event()
        process = processes.Process(target=publish_for_ever, args=(bundle, files, started))
        process.start()
        started.wait()
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert sha256(bundle / "models" / "model.pt") in whole
        store = VersionStore(bundle)
        assert all(sha256(version.weights) == version.weights_sha256 for version in store.versions())
        left.update(path.parent.name for path in bundle.glob("*/.unetpp_*"))
        assert store.publish(files[0], WeightsOrigin("trained")) == store.served()
    assert list((bundle / "models").glob("*.pt")) == [bundle / "models" / "model.pt"]


def test_leftovers_of_the_killed_are_removed_later(bundle):
    left = bundle / "models" / ".unetpp_killed"
    left.mkdir()
    (left / "model.pt").write_bytes(b"half")
    VersionStore(bundle).served()
    assert left.exists()  # another process may be at work
    os.utime(left, (0, 0))
    (bundle / "models" / "model.pt").write_bytes(weights(5))
    VersionStore(bundle).served()
    assert not left.exists()
