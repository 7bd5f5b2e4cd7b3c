"""Decide whether a result needs human review, by the bundle's ranges, gates and score threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..gates import Gates
from ..located import Located
from ..segmentation import Scores
from ..volume import Volume
from .folder import Bundle


@dataclass(frozen=True)
class Judge:
    """The result of one image, judged by its bundle."""

    bundle: Bundle
    image: Volume
    voxels: Mapping[str, int]  # by label name
    located: Located | None  # None: the bundle has no locator

    @cached_property
    def implausible(self) -> tuple[str, ...] | None:
        """Return one sentence per value outside the bundle's ranges and gates; None: it states none."""
        bundle, said = self.bundle, None
        if bundle.plausible is not None:
            said = bundle.plausible.implausible(self.image, self.voxels, bundle.labels)
        if self.located is not None:
            ml = {label.index: self.voxels[label.name] * self.image.voxel_ml for label in bundle.labels}
            said = (*(said or ()), *(bundle.gates or Gates()).implausible(self.located, ml))
        return said

    def review(self, scores: Scores, *, full: bool, asked: bool) -> bool | None:
        """Tell whether a result needs review; None: unknown.

        Args:
            scores: of uncertainty.
            full: all heads were evaluated, as for the threshold.
            asked: uncertainty was requested.
        """
        if self.implausible or (asked and not any(self.voxels.values())):
            return True
        score, threshold = scores.by_measure.get(self.bundle.measure), self.bundle.review.threshold
        return None if not asked or score is None or threshold is None or not full else score >= threshold
