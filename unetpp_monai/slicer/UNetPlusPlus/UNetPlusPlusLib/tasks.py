"""List the included tasks, and describe one by `unetpp info --json`. Does not need Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .process import ExternalProcess, Options, Process, SegmentationError, program
from .words import _

SHIPPED = ("hippocampus_head", "hippocampus")  # volumes' tasks that come with weights
SPEED = "relative time"  # the bundles' key


@dataclass(frozen=True)
class Task:
    """A bundle, as a user chooses it."""

    name: str  # of the bundle, with its version
    expects: str  # the image
    labels: tuple[str, ...]  # in order of their index
    depths: tuple[tuple[str, str], ...]  # what --depth takes, and how it is shown
    foreign: tuple[str, ...] = ()  # code in its configs that is not on the list of harmless names


def task_of(info: Mapping[str, Any]) -> Task:
    """Read what `unetpp info --json` printed.

    Raises:
        SegmentationError: the bundle is not for volumes of one channel.
    """
    asked = info["input"]
    if (asked["spatial_dims"], asked["channels"]) != (3, 1):
        reason = _(
            "a bundle must take volumes of one channel, {name} is {axes}-D with {channels} channels; choose another"
        )
        raise SegmentationError(
            reason.format(name=info["name"], axes=asked["spatial_dims"], channels=asked["channels"])
        )
    whole = [key for key in info["depths"] if key.isdigit()]
    depths = [("full", _depth("full", info["depths"].get(max(whole, key=int), {}) if whole else {}))]
    depths += [(key, _depth(key, info["depths"][key])) for key in info["depths"]]
    return Task(
        f"{info['name']} {info['version']}",
        f"{asked['channel_names'][0]} ({asked['modality']})",
        tuple(label["name"] for label in info["labels"]),
        tuple(depths),
        tuple(map(str, info.get("must_be_trusted_for", ()))),
    )


def _depth(key: str, figures: Mapping[str, Any]) -> str:
    return _("{depth} (time x {share:.2f})").format(depth=key, share=figures[SPEED]) if SPEED in figures else key


class Question:
    """Runs `unetpp info` on a bundle, in a process: `update` returns its task when it has ended.

    Args:
        options: executable and bundle count.
        start: starts a command in a folder; what tests replace.

    Raises:
        SegmentationError: there is no executable.
    """

    def __init__(self, options: Options, start: Callable[[Sequence[str], Path], Process] = ExternalProcess) -> None:
        asked = ["--bundle", options.bundle] if options.bundle else []
        self._process: Process = start([*program(options), "info", "--json", *asked], Path(tempfile.gettempdir()))
        self._said: list[str] = []

    def update(self) -> Task | None:
        """Return the task, or None as long as there is no answer.

        Raises:
            SegmentationError: the bundle cannot be read.
        """
        self._said += self._process.lines()
        code = self._process.code()
        if code is None:
            return None
        text = "\n".join(self._said)
        if code != 0:
            said = text.strip().removeprefix("error: ")
            raise SegmentationError(said or _("unetpp info ended with exit code {code}").format(code=code))
        try:
            return task_of(json.loads(text[text.index("{") :]))
        except ValueError as error:
            raise SegmentationError(_("unetpp info must print JSON; is its version this module's?")) from error

    def end(self) -> None:
        """End the process."""
        self._process.end()
