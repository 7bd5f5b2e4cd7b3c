"""One image that a person corrects by clicks and scribbles. Knows no file, no server and no viewer."""

from .kinds import BACKGROUND, InitialLabels, Point, Prompt, Prompting, Scribble
from .session import MOST_PROMPTS, Session

__all__ = ["BACKGROUND", "MOST_PROMPTS", "InitialLabels", "Point", "Prompt", "Prompting", "Scribble", "Session"]
