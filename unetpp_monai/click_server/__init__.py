"""A server for viewers that speak nnInteractive's protocol: their clicks, our network. Knows no file and no patient."""

from .clicked import Setting
from .server import ClickServer, serve
from .site import Site

__all__ = ["ClickServer", "Setting", "Site", "serve"]
