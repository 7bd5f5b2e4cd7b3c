"""Detect the modality of each channel, and choose its intensity normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..words import counted
from .checking import AIR, Checked
from .dataset import WORDS, modality_of

CLIP = (0.5, 99.5)  # percentiles of the foreground that a CT is clipped to
MASKED = 0.25  # fraction of zeros above which an MR was skull-stripped or padded
UNKNOWN = "n/a"


@dataclass(frozen=True)
class Kind:
    """The modality of a channel."""

    modality: str  # DICOM's, or "n/a"
    why: str


def channel_kinds(checked: Checked, stated: str) -> tuple[Kind, ...]:
    """Find the modality of each channel: as stated, by name, or by Hounsfield units.

    Args:
        checked: without errors.
        stated: one word for all channels, or one per channel with commas; "": not stated.

    Raises:
        InputError: an unknown word, or negative whole numbers of unknown meaning.
    """
    count = len(checked.cases[0][1].channels)
    names = checked.dataset.channels or tuple(f"channel {number}" for number in range(count))
    words = check_words(stated)
    if words and len(words) not in (1, count):
        raise InputError(f"modality must be 1 word or {count}, one per channel, got {stated!r}", option="modality")
    return tuple(
        Kind(modality_of(words[number if len(words) > 1 else 0]) or UNKNOWN, "as stated")
        if words
        else _found(checked, number, name)
        for number, name in enumerate(names)
    )


def check_words(stated: str) -> list[str]:
    """Split a stated modality into its words.

    Raises:
        InputError: an unknown word.
    """
    words = [word.strip() for word in stated.split(",")] if stated else []
    for word in words:
        if modality_of(word) is None:
            known = ", ".join(sorted(key.lower() for key in WORDS))
            raise InputError(f"modality must be one of {known}, got {word!r}", option="modality")
    return words


def _found(checked: Checked, number: int, name: str) -> Kind:
    if modality := modality_of(name):
        return Kind(modality, f"channel {number} is named {name}")
    channels = [(case.name, facts.channels[number]) for case, facts in checked.cases]
    whole = [(case, channel.lowest) for case, channel in channels if channel.whole]
    if len(whole) == len(channels) and float(np.median([lowest for _, lowest in whole])) <= AIR:
        return Kind("CT", f"whole numbers down to {AIR} or less in half of the cases or more, as Hounsfield units")
    negative = [
        (case, channel.lowest)
        for case, channel in channels
        if channel.lowest < 0 and (channel.whole or channel.lowest <= AIR)
    ]
    if negative:
        case, lowest = negative[0]
        raise InputError(
            f"numbers below 0 may be Hounsfield units or not, got {lowest:g} in {name} of "
            f"{counted(len(negative), 'case')} such as {case}; state the modality, such as ct or mr",
            option="modality",
        )
    return Kind(UNKNOWN, "neither named nor Hounsfield units")


def intensity_rules(checked: Checked, kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """Return one rule per channel for `NormalizeChannelsd`; empty if all are its default."""
    rules = [_rule(checked, number, kind) for number, kind in enumerate(kinds)]
    default = {"kind": "zscore", "mask": "all"}
    return [] if all(rule == default for rule in rules) else rules


def _rule(checked: Checked, number: int, kind: Kind) -> dict[str, Any]:
    channels = [facts.channels[number] for _, facts in checked.cases]
    if kind.modality != "CT":
        zeros = float(np.median([channel.zeros for channel in channels]))
        masked = zeros > MASKED and kind.modality in ("MR", UNKNOWN) and not checked.cases[0][1].picture
        return {"kind": "zscore", "mask": "nonzero" if masked else "all"}
    sample = np.concatenate([channel.foreground for channel in channels]).astype(np.float64)
    lower, upper = np.percentile(sample, CLIP)
    clipped = np.clip(sample, lower, upper)
    values = {"lower": lower, "upper": upper, "mean": clipped.mean(), "std": clipped.std()}
    if not values["std"] > 0:
        raise InputError(
            f"labelled voxels of a CT must differ, got {lower:g} in all of them; state another modality",
            option="modality",
        )
    return {"kind": "clip", **{key: float(f"{value:.6g}") for key, value in values.items()}}
