"""Warn about unusual cases of a training, and refuse validation cases without labels."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai import transforms
from monai.config import KeysCollection
from monai.data import MetaTensor

from ..errors import InputError

logger = logging.getLogger(__name__)


class WarnOfCasesd(transforms.MapTransform):
    """Warn about empty label maps and constant images; changes nothing.

    Args:
        keys: of the label map `(1, *spatial)`, 0 = background.
        image_key: of the image `(C, *spatial)`.
    """

    def __init__(self, keys: KeysCollection, image_key: str) -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Check one case."""
        image = data[self.image_key]
        for number, channel in enumerate(image):
            if channel.min() == channel.max():
                where = f"channel {number + 1} of " if len(image) > 1 else ""
                value = float(channel.min())
                logger.warning("an image should not be constant, got %g in all of %s%s", value, where, _name(image))
        for key in self.key_iterator(data):
            if not data[key].any():
                what = "a label map should show a structure, got only background in %s, the label of %s"
                logger.warning(what, _name(data[key]), _name(image))
        return data


def require_foreground(validation: Sequence[Mapping[str, Any]]) -> None:
    """Check that validation cases have structures; otherwise all epochs would score the same.

    Args:
        validation: cached cases.

    Raises:
        InputError: all of their labels are empty.
    """
    cached = getattr(validation, "_cache", ())
    if len(cached) and not any(case["label"].any() for case in cached):
        raise InputError(
            f"labels must show a structure in some case to validate on, got only background in all {len(cached)}; "
            "label more cases, or choose another fold"
        )


def _name(image: Any) -> str:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    return Path(str(meta.get("filename_or_obj", "an image"))).name
