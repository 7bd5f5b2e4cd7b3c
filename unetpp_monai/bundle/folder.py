"""Find a bundle, read its configs, and decide what it may run.

Reading executes and imports nothing. Only the parser of `Bundle.parser` evaluates configs, and it is refused if they
have unlisted names (see `trust`) and the bundle is not trusted.
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
from .configs import CONFIG, METADATA, WEIGHTS, foreign_in, literal, read_configs, refuse, usable
from .metadata import ImageInput, ReviewRule, described
from .writing import bundle_folder

LONGEST = 100  # characters of a folder's name
UNHASHED = (*LOCAL, "device", "_meta_")  # keys of a config about where it runs, not what it does


@dataclass(frozen=True)
class Bundle:
    """Describe a bundle: folder, metadata and configs.

    Example:
        >>> bundle = read_bundle()
        >>> bundle.input.channels, bundle.is_interactive
        (1, False)
    """

    root: Path  # folder with configs/ and models/
    metadata: dict[str, Any]  # of metadata.json
    input: ImageInput
    labels: tuple[Label, ...]  # structures, without background
    review: ReviewRule
    plausible: Plausible | None  # ranges of the training data; None: not stated
    gates: Gates | None  # ranges for located structures; None: not stated
    weights: Path  # models/model.pt, or a file given instead
    weights_sha256: str  # hexadecimal
    configs: Mapping[str, Mapping[str, Any]] = field(repr=False)  # every JSON file in configs/ as read, by name
    trusted: bool = False  # by the user: its configs may use any name

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
        """Measure behind scores: the one of `UNCERTAINTIES` that `unetpp calibrate` chose."""
        return self.review.measure

    @property
    def channel_suffixes(self) -> tuple[str, ...]:
        """File name endings of the channels of one case; empty: one file per case."""
        stated = self.configs[CONFIG].get("channel_suffixes", ())
        return tuple(stated) if isinstance(stated, list) and all(isinstance(end, str) for end in stated) else ()

    @property
    def is_interactive(self) -> bool:
        """Whether its network supports prompts; see `Segmenter.session`."""
        return bool(self.configs[CONFIG].get("prompt_labels"))

    @property
    def config_sha256(self) -> str:
        """Hash of the stored `inference.json`; see `config_sha256` for a changed one."""
        return config_sha256(self.parser())

    @cached_property
    def foreign(self) -> tuple[Foreign, ...]:
        """Unlisted names in its configs, which run only if the bundle is trusted."""
        return foreign_in(self.root, self.configs)

    def check_trust(self) -> None:
        """Refuse unlisted names, unless the bundle is trusted.

        Raises:
            BundleError: the bundle must be trusted first.
        """
        refuse(self.root, () if self.trusted else self.foreign)

    def config(self, name: str = CONFIG) -> dict[str, Any]:
        """Copy one of its configs for evaluation; names that have moved are replaced, with a warning.

        Raises:
            BundleError: the bundle must be trusted first, no such config, or an unknown name.
        """
        return usable(self.root, self.configs, name, () if self.trusted else self.foreign)

    def parser(self) -> ConfigParser:
        """Parse `inference.json`; each call returns new objects.

        Raises:
            BundleError: as for `config`, or its parts are missing or invalid.
        """
        config, name = self.config(), at(self.root / CONFIG)
        if fault := next(part_faults(config), ""):
            raise BundleError(f"{name}: {clipped(fault, 250)}")
        parser = parser_of(config, name)
        parser["bundle_root"] = literal(self.root)
        return parser


def config_sha256(parser: ConfigParser) -> str:
    """Hash a config's settings.

    The hash is of canonical JSON, without `UNHASHED`.

    Args:
        parser: of a bundle, including later changes.

    Returns:
        Hexadecimal; independent of the bundle's folder and the machine.

    Example:
        >>> bundle = read_bundle("hippocampus")
        >>> config_sha256(bundle.parser()) == bundle.config_sha256
        True
    """
    resolved = ConfigParser(deepcopy(parser.config))
    resolved.resolve_macro_and_relative_ids()  # as parsing does, so that parsing does not change the hash
    content = {key: value for key, value in resolved.config.items() if key not in UNHASHED}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_bundle() -> Path:
    """Find the bundle included in this package.

    Returns:
        Its folder: installed, in a checkout, or packed around the package.

    Raises:
        BundleError: no bundle.

    Example:
        >>> (default_bundle() / CONFIG).is_file()
        True
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "default_bundle", package.parent / "bundle", package.parent):
        if (root / METADATA).is_file():
            return root
    raise BundleError(f"a bundle must be in or beside {package}, found none; name its folder", option="bundle")


def folder_name(name: str) -> str:
    """Turn a bundle's name into a folder's name.

    Args:
        name: of the bundle.

    Returns:
        Lower case letters, digits and underscores, at most `LONGEST`.

    Example:
        >>> folder_name("UNet++ of nuclei")
        'unetpp_of_nuclei'
        >>> len(folder_name("n" * 300))  # which no file system takes
        100
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("++", "pp"))[:LONGEST].strip("_") or "bundle"


def read_bundle(root: str | Path | None = None, *, weights: str | Path | None = None, trust: bool = False) -> Bundle:
    """Read a bundle and check that it is complete.

    Its files must exist and be unchanged since packing. No code of it is run.

    Args:
        root: bundle folder, a task's folder, or the name of an included task; None: the included bundle.
        weights: file to use instead of the bundle's own, such as a training's `model.pt`; None: its own.
        trust: let its configs run anything, as `monai.bundle run` does; else only listed names, see `Bundle.foreign`.

    Returns:
        The bundle; build a `Segmenter` from it to use it.

    Raises:
        BundleError: a file is missing, altered or not JSON, or the metadata is incomplete.

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
