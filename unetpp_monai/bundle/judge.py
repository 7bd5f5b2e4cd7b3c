"""Whether a person should look at a result, by what its bundle states: ranges, gates, and a threshold of the score."""

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
    """What was found in one image, seen by its bundle."""

    bundle: Bundle
    image: Volume
    voxels: Mapping[str, int]  # label name -> how many
    located: Located | None  # None: the bundle has no locator

    @cached_property
    def implausible(self) -> tuple[str, ...] | None:
        """What lies outside of the bundle's ranges and gates, one sentence each; None: it states none."""
        bundle, said = self.bundle, None
        if bundle.plausible is not None:
            said = bundle.plausible.implausible(self.image, self.voxels, bundle.labels)
        if self.located is not None:
            ml = {label.index: self.voxels[label.name] * self.image.voxel_ml for label in bundle.labels}
            said = (*(said or ()), *(bundle.gates or Gates()).implausible(self.located, ml))
        return said

    def review(self, scores: Scores, *, full: bool, asked: bool) -> bool | None:
        """Whether a person should look; None: not known.

        Args:
            scores: of uncertainty.
            full: all heads were evaluated, as when the threshold was measured.
            asked: for uncertainty.
        """
        if self.implausible or (asked and not any(self.voxels.values())):
            return True
        score, threshold = scores.by_measure.get(self.bundle.measure), self.bundle.review.threshold
        return None if not asked or score is None or threshold is None or not full else score >= threshold
