"""What a bundle from a stranger may do: names that its configs may use, and sums of its files."""

from .configs import Foreign, foreign
from .sums import SUMS, check_sums

__all__ = ["SUMS", "Foreign", "check_sums", "foreign"]
