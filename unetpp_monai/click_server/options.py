"""Settings of the click server, and the capabilities it reports to clients."""

from dataclasses import dataclass
from typing import Any

from .._version import __version__
from ..errors import InputError
from ..segmenter import Segmenter
from .clicked import Setting


@dataclass(frozen=True)
class ServerOptions:
    """Settings of the click server.

    Example:
        >>> ServerOptions(Setting("left hippocampus", "SPL"), port=1528).host
        '127.0.0.1'
    """

    setting: Setting
    host: str = "127.0.0.1"
    port: int = 1527
    token: str | None = None  # required in every request; None: no token
    most: int = 2  # clients at the same time
    idle: float = 600.0  # seconds without user action until a lease ends
    silent: float = 60.0  # seconds without request until a lease ends


def capabilities_of(segmenter: Segmenter, setting: Setting) -> dict[str, Any]:
    """Describe the network to clients: its prompts, and its only structure.

    Raises:
        InputError: no prompts, no such label, or one without prompts.
    """
    bundle = segmenter.bundle
    names = [label.name for label in bundle.labels]
    if not bundle.is_interactive:
        raise InputError(f"a bundle must support prompts to serve clicks, got {bundle.name}; train one with prompts")
    if setting.label not in names:
        raise InputError(f"a label must be one of {', '.join(names)}, got {setting.label!r}", option="label")
    segmenter.prompting.channel(setting.label)
    kinds = {"points": True, "scribble": True, "lasso": True, "bbox2d": False, "bbox3d": False}
    return {
        "supported_interactions": kinds,
        "channel_mapping": {"points": [0, 1], "scribble": [0, 1], "lasso": [0, 1]},
        "num_interaction_channels": 2,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "supports_undo": True,
        "preferred_scribble_thickness": [1, 1, 1],
        "interaction_decay": 1.0,
        "do_autozoom": False,
        "inference_session_version": f"unetpp_monai {__version__}",
        "license": str(bundle.metadata.get("copyright", "not stated")),
        "model": f"{bundle.name} {bundle.version}: segments {setting.label} only, and no other structure",
    }
