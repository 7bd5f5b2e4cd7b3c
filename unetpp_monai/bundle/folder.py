"""Bundles on disk: find one, read its configs, decide what it may run.

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

from monai.bundle import ConfigParser

from ..errors import BundleError
from ..files import sha256
from ..gates import Gates
from ..json_files import at, clipped
from ..labels import Label
from ..plausibility import Plausible
from ..task import LOCAL
from ..trust import Foreign, check_sums
from .components import parser_of, part_faults
from .configs import CONFIG, METADATA, WEIGHTS, foreign_in, read_configs, refuse, usable
from .metadata import ImageInput, ReviewRule, described
from .writing import bundle_folder

UNHASHED = (*LOCAL, "device", "_meta_")  # of a config: what says where it runs, not what it does


@dataclass(frozen=True)
class Bundle:
    """Hold a bundle's folder and what its configs state.

    Example:
        >>> bundle = read_bundle()
        >>> bundle.input.channels, bundle.is_interactive
        (1, False)
    """

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
        """What a score is the mean of: one of `UNCERTAINTIES`, whichever `unetpp calibrate` found to be better."""
        return self.review.measure

    @property
    def channel_suffixes(self) -> tuple[str, ...]:
        """Endings of the names of files that are channels of one case; empty: one file a case."""
        stated = self.configs[CONFIG].get("channel_suffixes", ())
        return tuple(stated) if isinstance(stated, list) and all(isinstance(end, str) for end in stated) else ()

    @property
    def is_interactive(self) -> bool:
        """Whether its network takes prompts; see `Segmenter.session`."""
        return bool(self.configs[CONFIG].get("prompt_labels"))

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
    """Hash what a config decides.

    That is its canonical JSON, without `UNHASHED`.

    Args:
        parser: of a bundle, with what was changed in it since.

    Returns:
        Hexadecimal; equal for every place of the bundle and every machine.
    """
    resolved = ConfigParser(deepcopy(parser.config))
    resolved.resolve_macro_and_relative_ids()  # as parsing does, so that it does not matter whether it was parsed
    content = {key: value for key, value in resolved.config.items() if key not in UNHASHED}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_bundle() -> Path:
    """Find the bundle included in this package.

    Returns:
        Its folder: installed, in a checkout, or packed around the package.

    Raises:
        BundleError: there is none.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "default_bundle", package.parent / "bundle", package.parent):
        if (root / METADATA).is_file():
            return root
    raise BundleError(f"a bundle must lie in or beside {package}, found none; name its folder", option="bundle")


def folder_name(name: str) -> str:
    """Turn a bundle's name into a folder's name.

    Args:
        name: for people.

    Returns:
        Lower case letters, digits and underscores.

    Example:
        >>> folder_name("UNet++ of nuclei")
        'unetpp_of_nuclei'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("++", "pp")).strip("_") or "bundle"


def read_bundle(root: str | Path | None = None, *, weights: str | Path | None = None, trust: bool = False) -> Bundle:
    """Read a bundle and check that it is whole.

    Its files must be there and as they were packed. Nothing of it is run.

    Args:
        root: bundle folder, a task's folder, or the name of a task that came with this package; None = the bundle that
            came with it.
        weights: a file to take instead of the bundle's own, such as a training's `model.pt`; None = its own.
        trust: its configs may run anything, as with `monai.bundle run`; else only what is listed, see `Bundle.foreign`.

    Returns:
        The bundle; build a `Segmenter` of it to use it.

    Raises:
        BundleError: a file is missing, altered or no JSON, or the metadata lacks what we need.

    Example:
        >>> [label.name for label in read_bundle("hippocampus").labels]
        ['anterior hippocampus', 'posterior hippocampus']
    """
    given = None if weights is None else Path(weights)
    if given is not None and not given.is_file():
        raise BundleError(f"weights must be a file, got {at(given)}; check the path")
    folder = default_bundle() if root is None else bundle_folder(root, weights=given)
    for part in (METADATA, CONFIG, *([] if weights is not None else [WEIGHTS])):
        if not (folder / part).is_file():
            raise BundleError(
                f"a bundle must hold {part}, found none in {at(folder)}; name another folder or pack it again"
            )
    path = folder / WEIGHTS if given is None else given
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
