"""Find, read and check bundles on disk; no code of a bundle runs before it is trusted."""

from .configs import CONFIG, METADATA, WEIGHTS, read_config
from .folder import (
    Bundle,
    config_sha256,
    default_bundle,
    folder_name,
    read_bundle,
)
from .metadata import ImageInput, ReviewRule
from .weights import check_weights, load_locator, load_network, parameters_by_depth
from .writing import release, write_bundle

__all__ = [
    "CONFIG",
    "METADATA",
    "WEIGHTS",
    "Bundle",
    "ImageInput",
    "ReviewRule",
    "check_weights",
    "config_sha256",
    "default_bundle",
    "folder_name",
    "load_locator",
    "load_network",
    "parameters_by_depth",
    "read_bundle",
    "read_config",
    "release",
    "write_bundle",
]
