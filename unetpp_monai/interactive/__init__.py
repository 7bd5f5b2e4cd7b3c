"""Correct one image by clicks and scribbles; independent of files, servers and viewers."""

from .kinds import BACKGROUND, InitialLabels, Point, Prompt, Prompting, Scribble
from .session import MOST_PROMPTS, Session

__all__ = ["BACKGROUND", "MOST_PROMPTS", "InitialLabels", "Point", "Prompt", "Prompting", "Scribble", "Session"]
