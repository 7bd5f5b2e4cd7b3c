"""What a session asks of what segments."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import torch

from ..depth import DepthLike
from ..inference import Predictor, Slab, Windows
from ..segmentation import Prepared
from ..volume import Volume


class Segments(Protocol):
    """Interface of `Segmenter`."""

    def predictor(self, depth: DepthLike = None) -> Predictor:
        """Return the function that predicts windows at a depth."""

    def replay(
        self,
        prepared: Prepared,
        predictor: Callable[[torch.Tensor], Windows],
        *,
        prompts: torch.Tensor | None = None,
        marks: Mapping[int, torch.Tensor] | None = None,
        correct: Callable[[Iterable[Slab]], Iterator[Slab]] | None = None,
    ) -> Volume:
        """Segment with another predictor."""
