"""Bundles on disk: find one, read its configs, load its weights strictly. Runs nothing."""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from .errors import BundleError, InputError
from .files import sha256
from .inference import MAPS
from .labels import Label, read_labels
from .moved_names import missing_names, rename_moved
from .networks import UNetPlusPlus
from .plausibility import Plausible
from .task import LOCAL, read_object

CONFIG, METADATA, WEIGHTS = "configs/inference.json", "configs/metadata.json", "models/model.pt"
UNHASHED = (*LOCAL, "device", "_meta_")  # of a config: what says where it runs, not what it does

# what `torch.load` and the network raise for files that are no weights, or another network's
UNREADABLE_WEIGHTS = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class ImageInput:
    """What images a bundle takes, as its metadata states it."""

    channels: int  # >= 1
    channel_names: tuple[str, ...]  # one per channel
    modality: str  # DICOM's word, such as "MR" or "CT"
    spatial_dims: int  # 2 or 3


@dataclass(frozen=True)
class ReviewRule:
    """Which results a person should look at, and what that rule was worth where it was measured."""

    measure: str = "disagreement"  # what a score is the mean of: one of `MAPS`
    threshold: float | None = None  # results with a score from here on; None: never calibrated
    share: float | None = None  # of the validation cases that it flags, 0 ... 1
    recall: float | None = None  # share of their worst quarter that is flagged, 0 ... 1
    auroc: float | None = None  # of the score for being in that quarter, 0 ... 1
    cases: int | None = None  # that it was measured on


@dataclass(frozen=True)
class Bundle:
    """A bundle folder and what its configs say."""

    root: Path  # folder with configs/ and models/
    metadata: dict[str, Any]  # of metadata.json
    input: ImageInput
    labels: tuple[Label, ...]  # structures, background left out
    review: ReviewRule
    plausible: Plausible | None  # what it was trained on; None: not stated
    weights: Path  # models/model.pt, or the file that was given instead
    weights_sha256: str  # hexadecimal

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
        return tuple(read_object(self.root / CONFIG).get("channel_suffixes", ()))

    @property
    def config_sha256(self) -> str:
        """Hash of `inference.json` as it is; see `config_sha256` for one that was changed."""
        return config_sha256(self.parser())

    def parser(self) -> ConfigParser:
        """Parse `inference.json`; each call gives objects of its own.

        Raises:
            BundleError: it names something that does not exist.
        """
        parser = ConfigParser()
        parser.read_config(read_config(self.root / CONFIG))
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


def read_config(path: Path) -> dict[str, Any]:
    """Read a config of a bundle; names that have moved since it was packed are replaced, with a warning.

    Raises:
        BundleError: no JSON object, or it names something that does not exist.
    """
    content = read_object(path)
    config: dict[str, Any] = rename_moved(content)
    if missing := sorted(set(missing_names(config))):
        raise BundleError(
            f"{path} must name what exists, got {', '.join(missing)}; use the package's version that packed it, or "
            "correct the name"
        )
    if config != content:
        warnings.warn(
            f"{path} is of an older version: names that have moved were replaced; pack the bundle again",
            FutureWarning,
            stacklevel=3,
        )
    return config


def default_bundle() -> Path:
    """Folder of the bundle that came with this package: installed, in a checkout, or packed around the package."""
    package = Path(__file__).resolve().parent
    for root in (package / "default_bundle", package.parent / "bundle", package.parent):
        if (root / METADATA).is_file():
            return root
    raise BundleError(f"a bundle must lie in or beside {package}, found none; name its folder", option="bundle")


def folder_name(name: str) -> str:
    """A bundle's name as folders and addresses take it: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("++", "pp")).strip("_") or "bundle"


def read_bundle(root: str | Path | None = None, *, weights: str | Path | None = None) -> Bundle:
    """Read a bundle's metadata and check that its parts are there.

    Args:
        root: bundle folder; None = the one that came with this package.
        weights: a file to take instead of the bundle's own, such as a training's `model.pt`; None = its own.

    Raises:
        BundleError: a file is missing or no JSON, or the metadata lacks what we need.
    """
    folder = default_bundle() if root is None else Path(root)
    for part in (METADATA, CONFIG, *([] if weights is not None else [WEIGHTS])):
        if not (folder / part).is_file():
            raise BundleError(
                f"a bundle must hold {part}, found none in {folder}; name another folder or pack it again"
            )
    path = folder / WEIGHTS if weights is None else Path(weights)
    if not path.is_file():
        raise BundleError(f"weights must be a file, got {path}; check the path")
    try:
        metadata = json.loads((folder / METADATA).read_text())
        version = metadata["version"]
    except (ValueError, KeyError) as error:
        raise BundleError(f"{folder / METADATA} must be JSON with a version, got {error!r}") from error
    if not isinstance(version, str):
        raise BundleError(f"version must be a string such as '0.1.0', got {version!r} in {folder / METADATA}")
    return Bundle(
        folder.resolve(),
        metadata,
        _read_input(metadata, folder),
        read_labels(metadata),
        _read_review(metadata, folder),
        _read_plausible(metadata, folder),
        path.resolve(),
        sha256(path),
    )


def _read_input(metadata: Mapping[str, Any], folder: Path) -> ImageInput:
    try:
        image = metadata["network_data_format"]["inputs"]["image"]
        names = tuple(str(name) for name in image["channel_def"].values())
        return ImageInput(int(image["num_channels"]), names, str(image["modality"]), len(image["spatial_shape"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{folder / METADATA} must describe inputs.image in network_data_format, got {error!r}"
        ) from error


def _read_review(metadata: Mapping[str, Any], folder: Path) -> ReviewRule:
    try:
        review = ReviewRule(**metadata.get("review", {}))
    except TypeError as error:
        raise BundleError(f"review must have the keys of ReviewRule, got {error} in {folder / METADATA}") from error
    if review.measure not in MAPS:
        raise BundleError(
            f"measure of review must be {' or '.join(MAPS)}, got {review.measure!r} in {folder / METADATA}; "
            "see unetpp calibrate"
        )
    return review


def _read_plausible(metadata: Mapping[str, Any], folder: Path) -> Plausible | None:
    if (stated := metadata.get("plausible")) is None:
        return None
    try:
        return Plausible.from_json(stated)
    except BundleError as error:
        raise BundleError(f"{error} in {folder / METADATA}") from error


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
        network = parser.get_parsed_content("network_def")
    indices, names = sorted(label.index for label in bundle.labels), {label.name for label in bundle.labels}
    if indices != list(range(1, network.out_channels)) or len(names) < len(indices):
        raise BundleError(
            f"channel_def must name the labels 1 to {network.out_channels - 1} of network_def, each differently, got "
            f"{[f'{label.index} {label.name}' for label in bundle.labels]}"
        )
    path = bundle.weights
    if depth is not None and not network.first_head <= depth <= network.depth:
        raise InputError(f"depth must be from {network.first_head} to {network.depth}, got {depth}")
    try:
        _check_stored(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=depth is not None)
        network.load_state_dict(weights, assign=True)
        network = network if depth is None else network.prune(depth)
    except UNREADABLE_WEIGHTS as error:
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise BundleError(
            f"{path} must hold the weights of network_def in {CONFIG}, got {' '.join(lines[:2])[:500]}"
        ) from error
    for name, parameter in network.named_parameters():
        if parameter.layout != torch.strided or not parameter.isfinite().all():
            raise BundleError(f"weights must be finite numbers, got others for {name} in {path}; take sound ones")
    return network.float().eval().to(device)  # type: ignore[no-any-return]


def _check_stored(path: Path) -> None:
    """Verify the checksums of a file of weights, which torch does not.

    Raises:
        BundleError: a part of it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise BundleError(f"{path} must be whole, got another checksum for {damaged} in it; copy it again")
