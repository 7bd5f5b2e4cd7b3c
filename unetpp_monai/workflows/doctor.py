"""What an installation is and what is wrong with it. Tells no path, host, user or image of the user."""

import base64
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

from .._version import __version__
from ..bundle import METADATA, Bundle, default_bundle, read_bundle
from ..errors import BundleError, InputError, UnetppError
from ..faults import STOP, trace_of
from ..files import sha256
from ..io import read_volume
from ..json_files import at
from ..memory import GIB, available_memory
from ..runtimes.backend import DEVICES, NEEDS, RUNTIMES
from ..segmenter import Segmenter
from ..trust.sums import SUMS

PACKAGE = "unetpp_monai"
SAMPLE = Path(__file__).parents[1] / "sample" / "mni_head.nii.gz"
DEVELOPERS = ("dev", "docs")  # extras that users do not need
USUAL = ("dicom", "fast", "train")  # extras that README's use needs; others are wanted once a part of one is installed
ABSENT = "not installed"
ALL = "all"  # the extra that joins others; what it lacks is theirs
REPEAT = "repeat with the runtime eager on the device cpu, and report both"
PATHS = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s,;:'\"()]*[\\/][^\s,;:'\"()]*")


@dataclass(frozen=True)
class Problem:
    """A fault of an installation."""

    fault: str  # what is wrong
    remedy: str  # what to do

    def __str__(self) -> str:
        """Give both in one line."""
        return f"{self.fault}; {self.remedy}"


@dataclass(frozen=True)
class Examination:
    """What was found, in JSON's types, and what is wrong."""

    found: dict[str, Any]  # by topic: versions, devices, runtimes, extras, bundles, sample
    problems: tuple[Problem, ...]


def examine(
    bundle: str | Path | None = None,
    *,
    extras: Sequence[str] | None = None,
    device: str = "auto",
    runtime: str = "auto",
) -> Examination:
    """Examine the installation and segment the included sample.

    Args:
        bundle: a further bundle to check; None: only the included one.
        extras: those that must be installed; None: `USUAL`, and no other may be installed in part.
        device: as `Segmenter` takes it.
        runtime: as `Segmenter` takes it.

    Raises:
        InputError: an extra does not exist.
    """
    problems: list[Problem] = []
    needs = _packages_by_extra()
    _check_names(extras, needs)
    found: dict[str, Any] = {
        "versions": _versions(needs),
        "devices": _devices(problems),
        "runtimes": _runtimes(),
        "extras": _extras(needs, extras, problems),
    }
    found["bundles"] = []
    own = _read(None, found["bundles"], problems)
    if bundle is not None:
        _read(bundle, found["bundles"], problems)
    found["sample"] = None if own is None else _segment(own, device, runtime, problems)
    return Examination(found, tuple(problems))


def _packages_by_extra() -> dict[str, list[str]]:
    """Distributions of each extra, its nested extras included; "" holds what is always needed."""
    try:
        stated = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:  # a copy in a packed bundle
        return {}
    names = [name for name in metadata.metadata(PACKAGE).get_all("Provides-Extra") or () if name not in DEVELOPERS]
    return {extra: sorted(set(_needed(extra, stated))) for extra in ("", *names)}


def _needed(extra: str, stated: Sequence[Requirement]) -> Iterator[str]:
    for one in stated:
        if one.marker is None or "extra" not in str(one.marker):
            wanted = extra == ""
        else:
            wanted = extra != "" and one.marker.evaluate({"extra": extra})
        if wanted and one.name.replace("-", "_") == PACKAGE:
            for nested in one.extras:
                yield from _needed(nested, stated)
        elif wanted:
            yield one.name


def _check_names(extras: Sequence[str] | None, needs: dict[str, list[str]]) -> None:
    if unknown := [name for name in extras or () if name not in needs or name == ""]:
        known = ", ".join(name for name in needs if name)
        raise InputError(f"an extra must be one of {known}, got {', '.join(unknown)}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _versions(needs: dict[str, list[str]]) -> dict[str, str]:
    packages = sorted({package for names in needs.values() for package in names} | {"torch", "monai", "numpy"})
    installed = {package: version for package in packages if (version := _version(package)) is not None}
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {PACKAGE: __version__, "python": platform.python_version(), "system": system, **installed}


def _devices(problems: list[Problem]) -> dict[str, Any]:
    free = available_memory()
    build = torch.version.cuda or torch.version.hip
    works = torch.cuda.is_available()
    if build is not None and not works:
        problems.append(
            Problem(
                f"PyTorch is built for GPUs ({build}), but no driver or no GPU was found",
                "install the driver of your GPU, or PyTorch's CPU build",
            )
        )
    return {
        "cpu_cores": os.cpu_count(),
        "memory_free_gib": None if free is None else round(free / GIB, 1),
        "gpu_build": build,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if works else [],
    }


def _runtimes() -> dict[str, str]:
    """Whether each runtime can be used; only the sample's is tried."""
    states = {}
    for runtime in RUNTIMES:
        missing = [package for package in NEEDS.get(runtime, ()) if find_spec(package) is None]
        states[runtime] = f"needs {', '.join(missing)}" if missing else "installed"
        if not missing and DEVICES.get(runtime) == "cuda" and not torch.cuda.is_available():
            states[runtime] = "needs a GPU"
    return states


def _extras(needs: dict[str, list[str]], wanted: Sequence[str] | None, problems: list[Problem]) -> Any:
    states: dict[str, str] = {}
    for extra, packages in needs.items():
        missing = [package for package in packages if _version(package) is None]
        state = _state(extra, missing, needs)
        states[extra or "required"] = state
        asked = extra in wanted if wanted is not None else extra in USUAL or (extra != ALL and state != ABSENT)
        if missing and (asked or extra == ""):
            name = f"the extra {extra}" if extra else "the installation"
            ending = f"[{extra}]" if extra else ""
            problems.append(Problem(f"{name} lacks {', '.join(missing)}", f"pip install '{PACKAGE}{ending}'"))
    return states or "not known: this copy of the package was not installed by pip"


def _state(extra: str, missing: Sequence[str], needs: dict[str, list[str]]) -> str:
    """Say what an extra lacks, or that nothing of its own is installed."""
    shared = {package for usual in ("", *USUAL) for package in needs.get(usual, ())}
    own = set(needs[extra]) - shared
    if extra not in ("", *USUAL, ALL) and missing and own <= set(missing):
        return ABSENT
    return f"lacks {', '.join(missing)}" if missing else "installed"


def _read(root: str | Path | None, bundles: list[dict[str, Any]], problems: list[Problem]) -> Bundle | None:
    """Read and describe a bundle; one that is altered or not whole becomes a problem."""
    folder, remedy = root, "take a whole copy of the bundle"
    try:
        folder = default_bundle() if root is None else root
        bundle = read_bundle(root)
        if root is None:
            remedy = f"pip uninstall {PACKAGE}, then pip install {PACKAGE}"
            _check_installed(bundle.root)
        bundles.append(_described(bundle))
    except UnetppError as error:
        name = "the included bundle" if root is None else "the given bundle"
        fault = f"{name} is altered or not whole ({without_paths(str(error), folder)})"
        problems.append(Problem(fault, remedy))
        return None
    return bundle


def _check_installed(root: Path) -> None:
    """Compare the included bundle with the hashes that pip recorded; there are none in a checkout.

    Raises:
        BundleError: a file is altered.
    """
    for path, digest in _recorded(root):
        if not path.is_file() or sha256(path) != digest:
            raise BundleError(f"{path.relative_to(root).as_posix()} must be as it was installed, got another file")


def _recorded(root: Path) -> Iterator[tuple[Path, str]]:
    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        return
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.hash is not None and file.hash.mode == "sha256" and path.is_relative_to(root):
            yield path, base64.urlsafe_b64decode(file.hash.value + "=").hex()


def _described(bundle: Bundle) -> dict[str, Any]:
    if (bundle.root / SUMS).is_file():
        checked = SUMS
    else:
        checked = "pip's record" if next(_recorded(bundle.root), None) else "nothing: no hashes were recorded"
    metadata_sha256 = sha256(bundle.root / METADATA)
    return {
        "name": bundle.name,
        "version": bundle.version,
        "weights_sha256": bundle.weights_sha256,
        "metadata_sha256": metadata_sha256,
        "config_sha256": bundle.config_sha256 if not bundle.foreign else None,
        "must_be_trusted": bool(bundle.foreign),
        "compared_with": checked,
    }


def _segment(bundle: Bundle, device: str, runtime: str, problems: list[Problem]) -> dict[str, Any] | None:
    """Segment the sample; whatever goes wrong becomes a problem."""
    try:
        result = Segmenter(bundle, device=device, runtime=runtime, volumes=1)(read_volume(SAMPLE))
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - the purpose is to report what is broken, whatever it raises
        said = without_paths(str(error), bundle.root) if isinstance(error, UnetppError) else trace_of(error)
        remedy = REPEAT
        problems.append(Problem(f"the sample was not segmented ({said})", remedy))
        return None
    if empty := [name for name, voxels in result.voxels.items() if voxels == 0]:
        remedy = REPEAT
        problems.append(Problem(f"nothing of {', '.join(empty)} was found in the sample", remedy))
    return {
        "ml": {name: round(ml, 3) for name, ml in result.ml.items()},
        "device": result.device,
        "runtime": result.runtime,
        "seconds": round(sum(result.seconds.values()), 2),
    }


def without_paths(text: str, root: str | Path | None = None) -> str:
    """Remove folders from a message.

    Args:
        text: the message, with paths as `at` gives them.
        root: a folder whose own path may be named; what is below it stays readable.

    Returns:
        The message with "<bundle>" for the folder and "<path>" for any other path of more than one part.
    """
    for folder in () if root is None else (Path(root), Path(root).resolve()):
        for part in (SUMS, METADATA, "configs/inference.json", "models/model.pt", ""):
            text = text.replace(at(folder / part), f"<bundle>/{part}".rstrip("/"))
        text = text.replace(str(folder), "<bundle>")
    for folder in (Path.home(), Path.cwd()):
        text = text.replace(str(folder), "<path>") if len(folder.parts) > 1 else text
    return PATHS.sub("<path>", text.replace("<bundle>/", "<bundle>:")).replace("<bundle>:", "<bundle>/")
