"""Bundles on disk: find one, read its configs, decide what it may run, load its weights strictly.

Reading runs nothing of a bundle, and imports nothing for it; its configs are evaluated only by what `Bundle.parser`
gives, which it refuses as long as they hold anything that is not listed (see `trust`) and nobody trusts them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..errors import BundleError, InputError
from ..files import sha256
from ..gates import Gates
from ..inference import Locator
from ..json_files import at, clipped
from ..label_rules import has_locator, result_channels
from ..labels import Label
from ..networks import UNetPlusPlus
from ..networks.unetplusplus import depth_of
from ..plausibility import Plausible
from ..task import LOCAL
from ..trust import Foreign, check_sums
from ..trust.stored_weights import UNREADABLE_WEIGHTS, check_stored
from .components import build, build_network, parser_of, part_faults
from .configs import CONFIG, foreign_in, read_configs, refuse, usable
from .metadata import ImageInput, ReviewRule, described

METADATA, WEIGHTS = "configs/metadata.json", "models/model.pt"
UNHASHED = (*LOCAL, "device", "_meta_")  # of a config: what says where it runs, not what it does
LOCATE, SEGMENT = "locate.", "segment."  # beginnings of names in the weights of a bundle with a locator
# name of a parameter of the network that segments
PARAMETER = re.compile(r"(?:segment\.)?(nodes|outputs)\.(x_\d+_\d+)\.(?!.*(running_|num_batches))")


@dataclass(frozen=True)
class Bundle:
    """A bundle folder and what its configs say."""

    root: Path  # folder with configs/ and models/
    metadata: dict[str, Any]  # of metadata.json
    input: ImageInput
    labels: tuple[Label, ...]  # structures, background left out
    review: ReviewRule
    plausible: Plausible | None  # what it was trained on; None: not stated
    gates: Gates | None  # ranges of what it locates; None: not stated
    weights: Path  # models/model.pt, or the file that was given instead
    weights_sha256: str  # hexadecimal
    configs: Mapping[str, Mapping[str, Any]] = field(
        repr=False
    )  # every JSON file below configs/ as it was read, by name
    trusted: bool = False  # by the user: its configs may name anything

    @property
    def name(self) -> str:
        """Name for people, from the metadata."""
        return str(self.metadata.get("name", self.root.name))

    @property
    def version(self) -> str:
        """Version of the bundle, x.y.z."""
        return str(self.metadata["version"])

    @property
    def measure(self) -> str:
        """What a score is the mean of: one of `MAPS`, whichever `unetpp calibrate` found to be better."""
        return self.review.measure

    @property
    def channel_suffixes(self) -> tuple[str, ...]:
        """Endings of the names of files that are channels of one case; empty: one file a case."""
        stated = self.configs[CONFIG].get("channel_suffixes", ())
        return tuple(stated) if isinstance(stated, list) and all(isinstance(end, str) for end in stated) else ()

    @property
    def config_sha256(self) -> str:
        """Hash of `inference.json` as it is; see `config_sha256` for one that was changed."""
        return config_sha256(self.parser())

    @cached_property
    def foreign(self) -> tuple[Foreign, ...]:
        """What its configs hold that is not listed, and that runs only if the bundle is trusted."""
        return foreign_in(self.root, self.configs)

    def check_trust(self) -> None:
        """Refuse a bundle that holds what is not listed, unless it is trusted.

        Raises:
            BundleError: it must be trusted first.
        """
        refuse(self.root, () if self.trusted else self.foreign)

    def config(self, name: str = CONFIG) -> dict[str, Any]:
        """Give a copy of one of its configs to be evaluated; names that have moved are replaced, with a warning.

        Raises:
            BundleError: the bundle must be trusted first, there is no such config, or it names what does not exist.
        """
        return usable(self.root, self.configs, name, () if self.trusted else self.foreign)

    def parser(self) -> ConfigParser:
        """Parse `inference.json`; each call gives objects of its own.

        Raises:
            BundleError: as `config`, or its parts are missing or wrong.
        """
        config, name = self.config(), at(self.root / CONFIG)
        if fault := next(part_faults(config), ""):
            raise BundleError(f"{name}: {clipped(fault, 250)}")
        parser = parser_of(config, name)
        parser["bundle_root"] = str(self.root)
        return parser


def config_sha256(parser: ConfigParser) -> str:
    """Hash what a config decides: its canonical JSON, without `UNHASHED`.

    Args:
        parser: of a bundle, with what was changed in it since.

    Returns:
        Hexadecimal; equal wherever the bundle lies and on whatever it runs.
    """
    resolved = ConfigParser(deepcopy(parser.config))
    resolved.resolve_macro_and_relative_ids()  # as parsing does, so that it does not matter whether it was parsed
    content = {key: value for key, value in resolved.config.items() if key not in UNHASHED}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_bundle() -> Path:
    """Folder of the bundle that came with this package: installed, in a checkout, or packed around the package."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "default_bundle", package.parent / "bundle", package.parent):
        if (root / METADATA).is_file():
            return root
    raise BundleError(f"a bundle must lie in or beside {package}, found none; name its folder", option="bundle")


def folder_name(name: str) -> str:
    """A bundle's name as folders and addresses take it: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("++", "pp")).strip("_") or "bundle"


def read_bundle(root: str | Path | None = None, *, weights: str | Path | None = None, trust: bool = False) -> Bundle:
    """Read a bundle and check that its parts are there, and as they were packed; nothing of it is run.

    Args:
        root: bundle folder; None = the one that came with this package.
        weights: a file to take instead of the bundle's own, such as a training's `model.pt`; None = its own.
        trust: its configs may run anything, as with `monai.bundle run`; else only what is listed, see `Bundle.foreign`.

    Raises:
        BundleError: a file is missing, altered or no JSON, or the metadata lacks what we need.
    """
    folder = default_bundle() if root is None else Path(root)
    for part in (METADATA, CONFIG, *([] if weights is not None else [WEIGHTS])):
        if not (folder / part).is_file():
            raise BundleError(
                f"a bundle must hold {part}, found none in {at(folder)}; name another folder or pack it again"
            )
    path = folder / WEIGHTS if weights is None else Path(weights)
    if not path.is_file():
        raise BundleError(f"weights must be a file, got {at(path)}; check the path")
    digest = sha256(path)
    own = weights is None
    check_sums(folder, known={WEIGHTS: digest} if own else {}, replaced=None if own else WEIGHTS)
    configs = read_configs(folder)
    metadata = configs[METADATA]
    found = described(metadata, at(folder / METADATA))
    return Bundle(
        root=folder.resolve(),
        metadata=metadata,
        input=found.input,
        labels=found.labels,
        review=found.review,
        plausible=found.plausible,
        gates=found.gates,
        weights=path.resolve(),
        weights_sha256=digest,
        configs=configs,
        trusted=trust,
    )


def load_network(
    bundle: Bundle, parser: ConfigParser, device: torch.device, *, depth: int | None = None
) -> UNetPlusPlus:
    """Build the network of `inference.json` with the bundle's weights.

    Args:
        bundle: whose weights to load; every entry must fit by name and shape.
        parser: of `bundle`, from which `network_def` is taken.
        device: to put the network on.
        depth: build no deeper than this, 1 ... the depth of `network_def`; None = all of it.

    Returns:
        The network in eval mode.

    Raises:
        BundleError: the weights or the labels' names do not belong to the network.
        InputError: no such depth.
    """
    with torch.device("meta"):  # shapes only: what is not needed is never made
        network = build_network(parser, at(bundle.root / CONFIG))
    both = has_locator(parser.config)
    channels = result_channels(parser.config) if both else network.out_channels
    indices, names = sorted(label.index for label in bundle.labels), {label.name for label in bundle.labels}
    if indices != list(range(1, channels or 0)) or len(names) < len(indices):
        raise BundleError(
            f"channel_def must name the labels 1 to {(channels or 0) - 1} of network_def, each differently, got "
            f"{clipped([f'{label.index} {label.name}' for label in bundle.labels], 150)} in {at(bundle.root)}"
        )
    if depth is not None and not network.first_head <= depth <= network.depth:
        raise InputError(f"depth must be from {network.first_head} to {network.depth}, got {depth}")
    network = _loaded(bundle.weights, network, "network_def", part=SEGMENT if both else "", depth=depth)
    return network.float().eval().to(device)


def load_locator(bundle: Bundle, locator: Locator, device: torch.device) -> None:
    """Load the weights of the network that locates, which lie in the same file as those of the one that segments.

    Args:
        bundle: whose weights to load; every entry must fit by name and shape.
        locator: built of its `inference.json`.
        device: to put the network on.

    Raises:
        BundleError: the weights do not belong to the locator.
    """
    _loaded(bundle.weights, locator.network, "the locator", part=LOCATE).float().eval().to(device)


def check_weights(bundle: Bundle) -> None:
    """Load the weights of a bundle once.

    Raises:
        BundleError: they, or the labels' names, do not belong to its networks.
    """
    parser, device = bundle.parser(), torch.device("cpu")
    load_network(bundle, parser, device)
    if has_locator(parser.config):
        load_locator(bundle, build(parser, "locator", at(bundle.root / CONFIG)), device)


def _loaded(path: Path, network: UNetPlusPlus, name: str, *, part: str, depth: int | None = None) -> UNetPlusPlus:
    """Load weights strictly; give the network.

    Args:
        path: of the file.
        network: to load into.
        name: of the network, for messages.
        part: beginning of the names that are its own, where the file holds those of `LOCATE` and `SEGMENT`.
        depth: keep no more of the network; None = all of it.
    """
    try:
        check_stored(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=depth is not None)
        if part:
            if others := [key for key in weights if not str(key).startswith((LOCATE, SEGMENT))]:
                raise KeyError(f"{others[0]}, which begins with neither {LOCATE} nor {SEGMENT}")
            weights = {key.removeprefix(part): value for key, value in weights.items() if key.startswith(part)}
        network.load_state_dict(weights, assign=True)
        network = network if depth is None else network.prune(depth)
    except UNREADABLE_WEIGHTS as error:
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise BundleError(
            f"{at(path)} must hold the weights of {name} in {CONFIG}, got {clipped(' '.join(lines[:2]), 200)}"
        ) from error

    for key, parameter in network.named_parameters():
        odd = parameter.is_meta or parameter.layout != torch.strided or parameter.is_complex()
        if odd or not parameter.isfinite().all():
            raise BundleError(f"weights must be finite numbers, got others for {key} in {at(path)}; take sound ones")
    return network


def parameters_by_depth(bundle: Bundle) -> dict[int, int]:
    """Count the parameters that each depth needs, from the names in the weights; no network is built.

    Returns:
        Depth with a head -> how many; empty for weights of another network.

    Raises:
        BundleError: the weights cannot be read.
    """
    try:
        check_stored(bundle.weights)
        weights = torch.load(bundle.weights, map_location="cpu", weights_only=True, mmap=True)
        found = [(PARAMETER.match(name), value.numel()) for name, value in weights.items()]
    except UNREADABLE_WEIGHTS as error:
        raise BundleError(f"{at(bundle.weights)} must hold weights, got {clipped(error, 200)}") from error
    sizes = [(parts[1], depth_of(parts[2]), size) for parts, size in found if parts]
    heads = sorted({depth for kind, depth, _ in sizes if kind == "outputs"})
    return {head: sum(size for _, depth, size in sizes if depth <= head) for head in heads}
