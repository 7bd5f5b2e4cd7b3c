"""How candidates for annotation are ranked and handed out. Knows no server."""

from collections.abc import Iterable, Mapping
from typing import Any

from .score_cache import Score

HELD_SECONDS = 3600  # how long an image counts as being worked on by the client that got it


def choose(
    images: Iterable[str], infos: Mapping[str, Mapping[str, Any]], *, client: str | None, now: float
) -> str | None:
    """Take the first image that nobody got lately, else the one this client got longest ago, else another client's.

    Args:
        images: candidates, best first.
        infos: what the datastore says of each; `strategy` holds, by strategy, `ts` (seconds) and `client_id`.
        client: who asks; None: a client without a name.
        now: seconds since 1970.

    Returns:
        One of `images`; None if there are none.
    """

    def held(image: str) -> tuple[int, float]:
        given = [entry for entry in infos[image].get("strategy", {}).values() if now - entry["ts"] < HELD_SECONDS]
        if not given:
            return 0, 0.0
        last = max(given, key=lambda entry: entry["ts"])
        return (1 if last.get("client_id") == client else 2), last["ts"]

    return min(images, key=held, default=None)


def urgency(score: Score | None) -> tuple[int, float]:
    """Sort key of an image, most urgent first: nothing found, found (falling score), not scored, not segmentable."""
    if score is None:
        return 2, 0.0
    if score.error:
        return 3, 0.0
    return (0, 0.0) if score.value is None else (1, -score.value)
