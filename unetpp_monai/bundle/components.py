"""Build the parts of a config with MONAI; any error becomes one sentence with file and key."""

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

NETWORK, INFERER, CHAINS = "network_def", "inferer", ("preprocessing", "postprocessing")  # parts used to segment
FILES = ("LoadImaged", "SaveImaged")  # steps for files, not used with arrays
REASON = 200  # most characters
T = TypeVar("T")


def part_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults in an `inference.json`, from its text only."""
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
    """Parse a config, replacing macros and relative references.

    Args:
        config: of a bundle, checked by `part_faults`; changed in place.
        name: of its file, for messages.

    Raises:
        BundleError: a macro without target, or circular references.
    """

    def parse() -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(config)
        parser.resolve_macro_and_relative_ids()
        return parser

    return attempt(parse, f"{name}: macros and references must lead to values")


def drop_file_steps(parser: ConfigParser) -> None:
    """Remove the steps that read and write files."""
    for chain in CHAINS:
        steps = parser[f"{chain}#transforms"]
        parser[f"{chain}#transforms"] = [step for step in steps if step["_target_"].split(".")[-1] not in FILES]


def build(parser: ConfigParser, key: str, name: str) -> Any:
    """Build a part of a config step by step, so that an error names the faulty one.

    Args:
        parser: of a config.
        key: of the part.
        name: of the file, for messages.

    Raises:
        BundleError: the part cannot be built.
    """
    if not parser.ref_resolver.is_resolved():
        attempt(lambda: parser.parse(reset=True), f"{name}: macros and references must lead to values")
    below = f"{key}::"
    inner = sorted((item for item in parser.ref_resolver.items if item.startswith(below)), key=_depth, reverse=True)
    for item in (*inner, key):
        said = clipped(item.replace("::", "#"), 80)
        attempt(partial(parser.get_parsed_content, item), f"{name}: {said} must be valid")
    return parser.get_parsed_content(key)


def _depth(item: str) -> int:
    return item.count("::")


def build_network(parser: ConfigParser, name: str) -> UNetPlusPlus:
    """Build the segmenting network of `inference.json`.

    Raises:
        BundleError: cannot be built, or is of another class.
    """
    network = build(parser, NETWORK, name)
    if isinstance(network, LocatedNetwork):
        network = network.segment
    if not isinstance(network, UNetPlusPlus):
        raise BundleError(f"{name}: {NETWORK} must be a UNetPlusPlus, got {clipped(type(network).__name__, 60)}")
    return network


def attempt(action: Callable[[], T], constraint: str) -> T:
    """Run an action that depends on a config.

    Args:
        action: to run.
        constraint: start of the message, file and key first.

    Raises:
        BundleError: any failure.
    """
    try:
        return action()
    except Exception as error:
        raise BundleError(f"{constraint}, got {clipped(reason_of(error), REASON)}") from error


def reason_of(error: BaseException) -> str:
    """Return the cause of a MONAI error: the first of ours in its chain, else the cause of its RuntimeErrors."""
    found = cause_of(error)
    return str(found) or type(found).__name__
