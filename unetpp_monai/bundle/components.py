"""Parts of a config as MONAI builds them; whatever that raises becomes one sentence that names file and key."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from monai.bundle import ConfigParser

from ..errors import BundleError, cause_of
from ..inference.locator import LocatedNetwork
from ..json_files import clipped
from ..networks import UNetPlusPlus
from ..task import base_config
from ..task_rules import value_faults, value_types

NETWORK, INFERER, CHAINS = "network_def", "inferer", ("preprocessing", "postprocessing")  # what segments
FILES = ("LoadImaged", "SaveImaged")  # steps that read and write files, which arrays do without
REASON = 200  # characters
T = TypeVar("T")


def part_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the parts and values of an `inference.json`, seen from its text."""
    for key in (NETWORK, INFERER, *CHAINS):
        part = config.get(key)
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            yield f"{key} must be an object with a _target_, got {clipped(repr(part), 60)}"
    for chain in CHAINS:
        part = config.get(chain)
        steps = part.get("transforms") if isinstance(part, dict) else None
        if not isinstance(steps, list) or not steps:
            yield f"{chain}#transforms must be a list of steps, got {clipped(repr(steps), 60)}"
            continue
        for number, step in enumerate(steps):
            if not isinstance(step, dict) or not isinstance(step.get("_target_"), str):
                yield f"{chain}#transforms#{number} must be an object with a _target_, got {clipped(repr(step), 60)}"
    types = value_types(base_config("inference"))
    yield from value_faults(config, {key: kinds for key, kinds in types.items() if key in config}, windows=False)


def parser_of(config: dict[str, Any], name: str) -> ConfigParser:
    """Parse a config, macros and relative references replaced.

    Args:
        config: of a bundle, checked by `part_faults`; it is changed.
        name: of its file, for messages.

    Raises:
        BundleError: a macro leads nowhere, or values refer to each other in a circle.
    """

    def parse() -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(config)
        parser.resolve_macro_and_relative_ids()
        return parser

    return attempt(parse, f"{name}: macros and references must lead to values")


def drop_file_steps(parser: ConfigParser) -> None:
    """Take the steps that read and write files out of the chains."""
    for chain in CHAINS:
        steps = parser[f"{chain}#transforms"]
        parser[f"{chain}#transforms"] = [step for step in steps if step["_target_"].split(".")[-1] not in FILES]


def build(parser: ConfigParser, key: str, name: str) -> Any:
    """Build a part of a config, its own parts one by one, so that a message names the one that is wrong.

    Args:
        parser: of a config.
        key: of the part.
        name: of the file, for messages.

    Raises:
        BundleError: it cannot be built.
    """
    if not parser.ref_resolver.is_resolved():
        attempt(lambda: parser.parse(reset=True), f"{name}: macros and references must lead to values")
    below = f"{key}::"
    inner = sorted((item for item in parser.ref_resolver.items if item.startswith(below)), key=_depth, reverse=True)
    for item in (*inner, key):
        said = clipped(item.replace("::", "#"), 80)
        attempt(partial(parser.get_parsed_content, item), f"{name}: {said} must be sound")
    return parser.get_parsed_content(key)


def _depth(item: str) -> int:
    return item.count("::")


def build_network(parser: ConfigParser, name: str) -> UNetPlusPlus:
    """Build the network of `inference.json` that segments.

    Raises:
        BundleError: it cannot be built, or is of another class.
    """
    network = build(parser, NETWORK, name)
    if isinstance(network, LocatedNetwork):
        network = network.segment
    if not isinstance(network, UNetPlusPlus):
        raise BundleError(f"{name}: {NETWORK} must be a UNetPlusPlus, got {clipped(type(network).__name__, 60)}")
    return network


def attempt(action: Callable[[], T], constraint: str) -> T:
    """Do what a config decides about.

    Args:
        action: to do.
        constraint: the beginning of the message, file and key first.

    Raises:
        BundleError: it failed in whatever way.
    """
    try:
        return action()
    except Exception as error:
        raise BundleError(f"{constraint}, got {clipped(reason_of(error), REASON)}") from error


def reason_of(error: BaseException) -> str:
    """What is behind an error of MONAI: the first of ours in its chain, else what its RuntimeErrors are about."""
    found = cause_of(error)
    return str(found) or type(found).__name__
