"""Serve clicks for viewers with nnInteractive's protocol; independent of files and patients."""

from .clicked import Setting
from .options import ServerOptions
from .server import ClickServer, serve

__all__ = ["ClickServer", "ServerOptions", "Setting", "serve"]
