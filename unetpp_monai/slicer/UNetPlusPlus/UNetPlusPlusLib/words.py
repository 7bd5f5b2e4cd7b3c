"""Translate what a user reads, by Slicer's own translations; outside Slicer it stays English."""

from __future__ import annotations  # Slicer's Python may be 3.9

try:
    from slicer.i18n import tr as _
except ImportError:  # outside the application, as in tests

    def _(text: str) -> str:
        return text


__all__ = ["_"]
