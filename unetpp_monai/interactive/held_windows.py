"""Cache the results of windows of one image, so that only windows with changed prompts are computed again."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

import torch

from ..inference import Predictor, Windows
from ..memory import GIB

LEAST = 0.5  # of the highest weight at a voxel: below, a window does not see its prompts
HELD = GIB  # most bytes per image; the least recently used are removed first


class HeldWindows:
    """Cache of window results by depth, position and prompts.

    Each window is computed alone, so its result does not depend on others in the batch. Windows without prompts are
    computed without prompt channels, like an automatic network. So are those with prompts only where others count far
    more: there, prompts would change little and cost most of the time.

    Args:
        channels: of the image; prompt channels follow.
        weights: gives how much a window counts by its number, `(*roi)`, as `relative_weights`.
        most: bytes in the cache.

    Attributes:
        computed: number of windows computed so far.
    """

    def __init__(self, channels: int, weights: Callable[[int], torch.Tensor], *, most: int = HELD) -> None:
        self.channels, self.weights, self.most, self.computed = channels, weights, most, 0
        self._found: OrderedDict[tuple[object, ...], Windows] = OrderedDict()
        self._bytes = 0

    def over(self, predictor: Predictor, *, both: bool = False) -> Callable[[torch.Tensor], Windows]:
        """Return a predictor for one pass over the image that calls another only for missing windows.

        Args:
            predictor: for the depth.
            both: return maps, too: the logits of the same windows without prompts.
        """
        place = 0  # of the next window; the order is the same in each pass

        def answer(windows: torch.Tensor) -> Windows:
            nonlocal place
            numbers = range(place, place + len(windows))
            place += len(windows)
            seen = (self._seen(*each) for each in zip(numbers, windows.split(1), strict=True))
            found = [self._of(predictor, *each) for each in zip(numbers, seen, strict=True)]
            result = Windows(*(torch.cat(layer) for layer in zip(*(each.layers for each in found), strict=True)))
            if not both:
                return result
            bare = windows[:, : self.channels].contiguous().split(1)
            alone = [self._of(predictor, *each).logits for each in zip(numbers, bare, strict=True)]
            return Windows(result.logits, torch.cat(alone))

        return answer

    def _seen(self, place: int, window: torch.Tensor) -> torch.Tensor:
        """Remove prompts of a window `(1, C, *roi)` where it counts little."""
        if not window[0, self.channels :].any():
            return window
        window = window.clone()
        window[0, self.channels :] *= (self.weights(place) >= LEAST).to(window.device)
        return window

    def _of(self, predictor: Predictor, place: int, window: torch.Tensor) -> Windows:
        prompts = window[0, self.channels :]
        marked = bool(prompts.any())
        digest = blake2b(prompts.to(torch.uint8).cpu().numpy().tobytes()).digest() if marked else b""
        key = (predictor.depth, place, digest)
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key]
        found = predictor(window if marked else window[:, : self.channels].contiguous())
        self.computed += 1
        self._found[key] = found
        self._bytes += _bytes(found)
        while self._bytes > self.most and len(self._found) > 1:
            self._bytes -= _bytes(self._found.popitem(last=False)[1])
        return found


def _bytes(windows: Windows) -> int:
    return sum(layer.numel() * layer.element_size() for layer in windows.layers)
