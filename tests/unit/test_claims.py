"""A case is claimed by one at a time, whoever wants it, and by others when its owner is gone."""

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unetpp_monai.cohort.claims import Claims
from unetpp_monai.errors import OutputError


def test_one_of_many_has_it(tmp_path):
    everyone = [Claims(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for case in map(str, range(20)):
            assert sum(pool.map(lambda claims, case=case: claims.take(case), everyone)) == 1
    assert len(everyone[0].running()) == 20


def test_a_claim_that_is_given_back_is_free(tmp_path):
    with Claims(tmp_path) as one:
        other = Claims(tmp_path)
        assert one.take("a") and not other.take("a")
        other.drop("a")  # not its own
        assert not other.take("a")
        one.drop("a")
        assert other.take("a")
        other.drop("a")
        assert one.take("b")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".clock")) == []


def test_an_owner_that_gives_signs_of_life_keeps_it(tmp_path):
    with Claims(tmp_path, beat=0.05, stale=0.5) as living:
        silent, other = Claims(tmp_path, stale=0.5), Claims(tmp_path, stale=0.5)
        assert living.take("kept") and silent.take("lost")
        for name in ("kept", "lost"):  # of a machine that nobody can ask who lives there
            path = tmp_path / name
            path.write_text(json.dumps({"token": json.loads(path.read_text())["token"], "host": "elsewhere"}))
        time.sleep(0.8)
        assert not other.take("kept") and other.take("lost")
        assert living.secure("kept") and not silent.secure("lost")  # too late: its result is discarded
        assert other.secure("lost")


def test_age_is_told_by_the_files_server_and_not_by_our_clock(tmp_path, monkeypatch):
    """A machine whose clock is a day ahead takes nothing over."""
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    assert not other.take("a")
    os.utime(tmp_path / "a", (real() - 100, real() - 100))  # as the server has it
    assert other.take("a")


def test_a_claim_of_a_process_that_was_killed_is_free_at_once(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from unetpp_monai.cohort.claims import Claims\n"
        "assert Claims(Path(sys.argv[1])).take('a'); print('claimed', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "claimed\n"
    claims = Claims(tmp_path)
    assert not claims.take("a")
    process.kill()
    process.communicate()
    assert claims.take("a")


def test_one_of_many_takes_over(tmp_path):
    Claims(tmp_path).take("a")
    (tmp_path / "a").write_text("{}")
    everyone = [Claims(tmp_path) for _ in range(8)]
    for _ in range(20):
        os.utime(tmp_path / "a", (0, 0))
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda claims: claims.take("a"), everyone))
        assert any(taken), taken  # the claim may be aside for a moment, so that two take it; one of them is late
        assert sum(claims.secure("a") for claims in everyone) == 1
        for claims in everyone:
            claims.drop("a")
        (tmp_path / "a").write_text("{}")


def test_where_files_have_one_name_only(tmp_path, monkeypatch):
    """Some network shares have no hard links."""

    def refuse(*arguments):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a") and not other.take("a")
    assert not other.secure("a") and one.secure("a")  # what the other moved aside was put back
    one.drop("a")
    assert list(tmp_path.iterdir()) == [tmp_path / f".clock-{other.token}"]


def test_what_killed_processes_left_goes(tmp_path):
    (tmp_path / ".clock-old").touch()
    os.utime(tmp_path / ".clock-old", (0, 0))
    (tmp_path / ".clock-new").touch()
    Claims(tmp_path).clean_up()
    assert not (tmp_path / ".clock-old").exists() and (tmp_path / ".clock-new").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="claims must be writable, got No such file"):
        Claims(tmp_path / "gone").take("a")
