"""Transforms that MONAI lacks; only what no stock transform does."""

from collections.abc import Hashable, Mapping

from monai import transforms


class Spacingd(transforms.Spacingd):
    """MONAI's `Spacingd`, which in 1.6 fails when an entry such as `image_path` is a string, as MONAI Label sends.

    It updates every entry whose key starts with `<key>_` as if it were a dictionary of metadata
    (`monai/transforms/spatial/dictionary.py`); entries that are none are hidden from it here and put back.
    """

    def __call__(self, data: Mapping[Hashable, object], lazy: bool | None = None) -> dict[Hashable, object]:
        """Resample as the parent does; see there."""
        keys = tuple(self.keys)
        hidden = {
            key: value
            for key, value in data.items()
            if key not in keys and not isinstance(value, dict) and any(str(key).startswith(f"{k}_") for k in keys)
        }
        shown = {key: value for key, value in data.items() if key not in hidden}
        return {**super().__call__(shown, lazy=lazy), **hidden}
