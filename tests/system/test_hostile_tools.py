"""The hostile commands see what they are made to see: hangs, crashes, memory, what is left, damaged checksums."""

import gzip
import os
import signal
import time
from random import Random

import numpy as np
import pytest
from hostile import seeds
from hostile.bytewise import within_gzip
from hostile.formats import FORMATS, make_mutant
from hostile.judge import FAULT, NAMED, _judge_error, failing_checksum
from hostile.warm import run_child

from unetpp_monai.errors import BundleError, InputError


def sleep(say):
    say({"found": "sleep"})  # so that its time begins when it has
    time.sleep(3600)


def crash(say):
    os.kill(os.getpid(), signal.SIGSEGV)


def take_memory(say):
    try:
        bytearray(3 << 30)
    except MemoryError:
        say({"found": "MemoryError"})


def print_and_say(say):
    print("words")  # noqa: T201 - what a library may do
    say({"found": 1})


def test_a_child_that_hangs_is_ended_and_says_where_it_was(tmp_path):
    ended = run_child(sleep, tmp_path, seconds=1)
    assert ended.late and ended.seconds > 0.9
    assert "in sleep" in ended.stderr


@pytest.mark.parametrize(
    ("work", "reports", "number", "stdout"),
    [
        (crash, [], signal.SIGSEGV, ""),
        (take_memory, [{"found": "MemoryError"}], 0, ""),
        (print_and_say, [{"found": 1}], 0, "words\n"),
    ],
)
def test_what_becomes_of_a_child_is_told(tmp_path, work, reports, number, stdout):
    ended = run_child(work, tmp_path)
    assert (ended.reports, ended.signal, ended.stdout, ended.late) == (reports, number, stdout, False)


@pytest.mark.parametrize("name", ["nifti", "nifti_gz", "nrrd", "metaimage", "png", "tiff"])
def test_a_number_always_means_the_same_mutant(tmp_path, name):
    FORMATS[name].make(tmp_path / "sound")
    made = []
    for again in range(2):
        mutants = [
            make_mutant(name, number, tmp_path / "sound", tmp_path / f"{again} {number}") for number in range(20)
        ]
        made.append([(one.how, one.size, one.path.read_bytes()) for one in mutants])
    assert made[0] == made[1]
    assert len({content for _, _, content in made[0]}) > 15


def test_damage_within_gzip_has_a_sound_checksum(tmp_path):
    packed = gzip.compress(bytes(range(200)))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(within_gzip(lambda data, rng: (data[:50], "cut"))(packed, Random(0))[0])
    assert failing_checksum("nifti_gz", path) == ""
    path.write_bytes(packed[:-8] + bytes(4) + packed[-4:])
    assert "CRC" in failing_checksum("nifti_gz", path)


@pytest.mark.parametrize("name", ["nrrd", "metaimage", "png"])
def test_checksums_of_other_formats(tmp_path, name):
    FORMATS[name].make(tmp_path)
    packed = {"nrrd": "gzip/image.nrrd", "metaimage": "mha_zlib/image.mha", "png": "grey/image.png"}[name]
    path = tmp_path / packed
    assert failing_checksum(name, path) == ""
    content = bytearray(path.read_bytes())
    content[-20] ^= 255
    path.write_bytes(content)
    assert failing_checksum(name, path)


class PanicError(BaseException):
    """As a library in Rust raises."""


@pytest.mark.parametrize(
    ("error", "verdict", "kind"),
    [
        (InputError("spacing must be > 0 mm, got 0"), NAMED, "InputError"),
        (BundleError("two\nlines"), FAULT, "a message that is not one line"),
        (BundleError("x" * 3000), FAULT, "a message that is not one line"),
        (InputError(""), FAULT, "a message that is not one line"),
        (RuntimeError("x"), FAULT, "RuntimeError"),
        (PanicError("x"), FAULT, "PanicError"),
        (MemoryError(), FAULT, "MemoryError"),
    ],
)
def test_only_a_named_error_of_one_line_is_right(error, verdict, kind):
    assert _judge_error(error)[:2] == (verdict, kind)


def test_sound_files_are_read_as_they_were_made(tmp_path):
    from unetpp_monai import read_volume

    seeds.make_nrrd(tmp_path / "nrrd")
    seeds.make_metaimage(tmp_path / "metaimage")
    paths = [*(tmp_path / "nrrd").glob("*/image.*"), *(tmp_path / "metaimage").glob("*/image.*")]
    assert len(paths) == 7
    for path in paths:
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array[0], seeds.voxels())
        np.testing.assert_allclose(volume.spacing, (1.1, 0.9, 1.3))
