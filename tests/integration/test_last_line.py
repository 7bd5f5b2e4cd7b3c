"""A run of MONAI's that a fault of ours ends has our sentence as its last line."""

import sys

import pytest
from helpers import BUNDLE, ROOT
from helpers.commands import python

from unetpp_monai.errors import InputError
from unetpp_monai.last_line import say_ours_last, sentence_of
from unetpp_monai.networks import UNetPlusPlus

INFERENCE, TRAIN = BUNDLE / "configs" / "inference.json", BUNDLE / "configs" / "train.json"
RUNS = {
    "a missing device": (INFERENCE, ("--device", "cuda:63"), "device must exist, got 'cuda:63' on a machine with "),
    "a device of no kind": (INFERENCE, ("--device", "nowhere"), "device must be cpu or cuda:N, got 'nowhere'"),
    "a device in an expression": (INFERENCE, ("--device", "$torch.device('x')"), "device must be a value, got "),
    "a wrong depth": (INFERENCE, ("--depth", "9"), "depth must be from 1 to 3, auto or full, got 9"),
    "where Label shows it": (
        INFERENCE,
        ("--displayable_configs#depth", "9"),
        "depth must be from 1 to 3, auto or full",
    ),
    "a depth of nonsense": (INFERENCE, ("--depth", "deep"), "depth must be from 1 to 3, auto or full, got 'deep'"),
    "no data": (INFERENCE, ("--dataset_dir", "lost"), "must exist, got lost"),
    "an overlap": (INFERENCE, ("--overlap", "1.0"), "overlap must be >= 0 and < 1, got 1.0"),
    "training on a missing device": (TRAIN, ("--device", "cuda:63"), "device must exist, got 'cuda:63'"),
    "training at a wrong depth": (TRAIN, ("--depth", "7"), "depth must be from 1 to 3, auto or full, got 7"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("config", "options", "words"), RUNS.values(), ids=list(RUNS))
def test_the_last_line_is_our_sentence(tmp_path, config, options, words):
    places = ("--bundle_root", BUNDLE, "--output_dir", tmp_path, "--dataset_dir", ROOT / "unetpp_monai" / "sample")
    run = python("monai.bundle", "run", "--config_file", config, *places, *options, folder=tmp_path)
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 1 and last.startswith("error: ") and words in last, run.stderr[-800:]


def raised(action):
    with pytest.raises(RuntimeError) as caught:
        try:
            action()
        except Exception as error:  # as MONAI does
            raise RuntimeError("Failed to evaluate") from error
    return caught.value


def test_sentences_are_those_of_our_errors_alone():
    def refuse():
        raise InputError("one\nsentence")

    assert sentence_of(raised(refuse)) == "one sentence"
    assert sentence_of(raised(lambda: UNetPlusPlus(3, 1, 2, [4]))).startswith("features must hold the channels")
    assert sentence_of(raised(lambda: int("x"))) == ""
    assert sentence_of(InputError("alone")) == ""  # it is the last line already


def test_what_was_set_before_is_called_once_and_first(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda *_: sys.stderr.write("traceback\n"))
    say_ours_last()
    say_ours_last()

    def refuse():
        raise InputError("ours")

    for action in (refuse, lambda: int("x")):
        error = raised(action)
        sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "traceback\nerror: ours\ntraceback\n"
