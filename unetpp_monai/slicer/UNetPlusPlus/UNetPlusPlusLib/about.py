"""Query a bundle, and show its depths in a selector and its expected input in a label."""

from __future__ import annotations  # Slicer's Python may be 3.9

from typing import Any

from .process import Options, SegmentationError
from .tasks import Question
from .words import _


class About:
    """Description of the chosen bundle: call `ask`, then `update` regularly; `end` cancels.

    Args:
        depths: QComboBox.
        label: QLabel.
    """

    def __init__(self, depths: Any, label: Any) -> None:
        self._depths, self._label = depths, label
        self._question: Question | None = None

    @property
    def running(self) -> bool:
        """Tell whether a query is running."""
        return self._question is not None

    @property
    def depth(self) -> str:
        """Return the chosen depth, without its time."""
        return str(self._depths.currentText).split(" ")[0]

    def choose(self, depth: str) -> None:
        """Choose a depth; add it if the bundle's depths are not known yet."""
        shown = [self._depths.itemText(index) for index in range(self._depths.count)]
        found = [text for text in shown if text.split(" ")[0] == depth]
        if not found:
            self._depths.addItem(depth)
        self._depths.setCurrentText(found[0] if found else depth)

    def ask(self, options: Options) -> None:
        """Start a new query; an older one is cancelled."""
        self.end()
        try:
            self._question = Question(options)
        except SegmentationError as error:
            self._label.text = str(error)

    def update(self) -> bool:
        """Show the answer; return whether there is one."""
        try:
            task = self._question.update() if self._question is not None else None
        except SegmentationError as error:
            self._question, self._label.text = None, str(error)
            return False
        if task is None:
            return False
        self._question, chosen = None, self.depth
        blocked = self._depths.blockSignals(True)  # only the final choice counts
        self._label.text = _("{name}. Expects {expects}. Labels: {labels}.").format(
            name=task.name, expects=task.expects, labels=", ".join(task.labels)
        )
        self._depths.clear()
        for _key, shown in task.depths:
            self._depths.addItem(shown)
        self._depths.setCurrentText(dict(task.depths).get(chosen, task.depths[0][1]))
        self._depths.blockSignals(blocked)
        return True

    def end(self) -> None:
        """End the query."""
        if self._question is not None:
            self._question.end()
            self._question = None
