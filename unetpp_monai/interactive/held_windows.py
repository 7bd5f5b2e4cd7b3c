"""What was computed of each window of one image, so that only windows whose prompts changed are computed again."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

import torch

from ..inference import Predictor, Windows
from ..memory import GIB

HELD = GIB  # bytes at most of one image; what was not used for the longest time goes first


class HeldWindows:
    """Results of windows by depth, place and prompts.

    Each window is computed alone, so that its result does not depend on which others are computed with it. One without
    prompts is computed without their channels, as an automatic network does.

    Args:
        channels: of the image; those of prompts follow them.
        most: bytes that are held.

    Attributes:
        computed: how many windows were computed so far.
    """

    def __init__(self, channels: int, *, most: int = HELD) -> None:
        self.channels, self.most, self.computed = channels, most, 0
        self._found: OrderedDict[tuple[object, ...], Windows] = OrderedDict()
        self._bytes = 0

    def over(self, predictor: Predictor) -> Callable[[torch.Tensor], Windows]:
        """A predictor for one pass over the image, which asks another only for what is not held.

        Args:
            predictor: of the depth.
        """
        place = 0  # of the next window; a pass gives them in the same order each time

        def answer(windows: torch.Tensor) -> Windows:
            nonlocal place
            found = [self._of(predictor, place + number, window[None]) for number, window in enumerate(windows)]
            place += len(windows)
            return Windows(*(torch.cat(layer) for layer in zip(*(each.layers for each in found), strict=True)))

        return answer

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
