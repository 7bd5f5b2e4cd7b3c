"""Translate texts for the user with Slicer's translations; English outside of Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

try:
    from slicer.i18n import tr as _
except ImportError:  # outside the application, as in tests

    def _(text: str) -> str:
        return text


__all__ = ["_"]
