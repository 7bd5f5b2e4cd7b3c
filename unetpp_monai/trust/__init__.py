"""Check untrusted bundles: names used in their configs, and checksums of their files."""

from .configs import Foreign, foreign
from .sums import SUMS, check_sums

__all__ = ["SUMS", "Foreign", "check_sums", "foreign"]
