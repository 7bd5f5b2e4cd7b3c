"""Ask a bundle what it is, and show the answer: its depths in a selector, what it expects in a label."""

from __future__ import annotations  # Slicer's Python may be 3.9

from typing import Any

from .process import Options, SegmentationError
from .tasks import Question
from .words import _


class About:
    """What the chosen bundle says of itself: `ask`, then `update` as by a timer; `end` gives up.

    Args:
        depths: QComboBox.
        label: QLabel.
    """

    def __init__(self, depths: Any, label: Any) -> None:
        self._depths, self._label = depths, label
        self._question: Question | None = None

    @property
    def running(self) -> bool:
        """Whether a bundle is being asked."""
        return self._question is not None

    @property
    def depth(self) -> str:
        """The chosen depth, without the time behind it."""
        return str(self._depths.currentText).split(" ")[0]

    def choose(self, depth: str) -> None:
        """Choose a depth; one that is not there is added, until the bundle has said which it has."""
        shown = [self._depths.itemText(index) for index in range(self._depths.count)]
        found = [text for text in shown if text.split(" ")[0] == depth]
        if not found:
            self._depths.addItem(depth)
        self._depths.setCurrentText(found[0] if found else depth)

    def ask(self, options: Options) -> None:
        """Ask anew; a question without an answer is dropped."""
        self.end()
        try:
            self._question = Question(options)
        except SegmentationError as error:
            self._label.text = str(error)

    def update(self) -> bool:
        """Show the answer, if there is one; return whether there is."""
        try:
            task = self._question.update() if self._question is not None else None
        except SegmentationError as error:
            self._question, self._label.text = None, str(error)
            return False
        if task is None:
            return False
        self._question, chosen = None, self.depth
        blocked = self._depths.blockSignals(True)  # only what is chosen in the end counts
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
        """End the question."""
        if self._question is not None:
            self._question.end()
            self._question = None
