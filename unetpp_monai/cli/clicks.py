"""`unetpp clicks`."""

import logging
from typing import Annotated

import typer

from ..errors import InputError
from .common import BundleOption, DepthOption, DeviceOption, RuntimeOption, TrustOption
from .train import shown_lines

LabelOption = Annotated[str, typer.Option(help="Label that viewers correct; required if the bundle has several.")]
AxesOption = Annotated[
    str, typer.Option(help="Directions of the array axes of viewers; SPL: an axial image of SimpleITK.")
]
SpacingOption = Annotated[
    str, typer.Option(metavar="A,B,C", help="Spacing in mm for viewers that state none; default: refuse them.")
]


def clicks(
    bundle: BundleOption = None,
    label: LabelOption = "",
    axes: AxesOption = "SPL",
    spacing: SpacingOption = "",
    depth: DepthOption = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: all (then set --token).")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Viewers expect 1527.", min=1, max=65535)] = 1527,
    token: Annotated[
        str | None,
        typer.Option(envvar="UNETPP_CLICKS_TOKEN", help="Token required in every request (a viewer's API key)."),
    ] = None,
    sessions: Annotated[int, typer.Option(help="Most viewers at the same time.", min=1, max=64)] = 2,
    idle: Annotated[float, typer.Option(help="Seconds until an unused session ends.", min=1)] = 600.0,
    silent: Annotated[float, typer.Option(help="Seconds until a session without requests ends.", min=1)] = 60.0,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    trust: TrustOption = False,
) -> None:
    """Serve clicks to viewers that speak nnInteractive's protocol, until stopped (Ctrl-C, SIGTERM)."""
    from ..click_server import ServerOptions, Setting, serve
    from ..segmenter import Segmenter
    from .plan import spacing_of

    lengths = spacing_of(spacing)
    if lengths and (len(lengths) != 3 or min(lengths) <= 0):
        raise InputError(f"spacing must be three lengths > 0 mm, got {spacing!r}", option="spacing")
    segmenter = Segmenter.from_bundle(bundle, trust=trust, device=device, runtime=runtime)
    names = [one.name for one in segmenter.bundle.labels]
    if not label and len(names) > 1:
        raise InputError(f"viewers correct one label, got {len(names)}: {', '.join(names)}; name one", option="label")
    setting = Setting(label or names[0], axes, lengths, depth)
    options = ServerOptions(setting, host, port, token, most=sessions, idle=idle, silent=silent)
    with shown_lines():
        logging.getLogger("unetpp_monai").setLevel(logging.INFO)
        serve(segmenter, options)
