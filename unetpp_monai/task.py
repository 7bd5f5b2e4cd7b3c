"""Tasks: values that override the neutral base configs. Find, read and check them before anything runs."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError
from .files import is_zip
from .gates import Gates
from .json_files import at, clipped, read_object
from .label_rules import has_locator, result_channels
from .labels import read_labels
from .last_line import say_ours_last
from .plausibility import Plausible
from .task_rules import is_structure, unknown_key, value_faults, value_types
from .words import counted

BASE = Path(__file__).resolve().parent / "base"
VALUES, DESCRIPTION, TRAINED = "task.json", "metadata.json", "model.pt"  # files of a task
RUNS, RECORD = "runs", "run.json"  # folder of a task's trainings, and the record of each
ALL = "all"  # instead of a fold: train on all cases without validation
DEFAULT_TASK = "hippocampus_head"  # of the included bundle
CONFIGS = ("inference", "train", "evaluate", "multi_gpu_train")  # of the base and every bundle
OPTIONAL = (  # keys of metadata.json that the base does not have
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
    "intended_use",
    "eval_metrics",
    "depths",
    "review",
    "plausible",
    "gates",
    "label_codes",
    "result_labels",
)
LOCAL = (
    "bundle_root",
    "dataset_dir",
    "cases_file",
    "cache_dir",
    "ckpt_dir",
    "output_dir",
    "initial_weights",
    "max_time",
)  # paths, and a time, of one machine
REVIEW = ("measure", "threshold", "share", "recall", "auroc", "cases")


@dataclass(frozen=True)
class Task:
    """The files of a task, without the base."""

    folder: Path
    values: Mapping[str, Any]  # of task.json
    metadata: Mapping[str, Any]  # of metadata.json

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def weights(self) -> Path:
        """Path of trained weights, which may not exist."""
        return self.folder / TRAINED


def find_task(task: str | Path) -> Path:
    """Find the folder of a task by path, or by name of an included one.

    Raises:
        BundleError: no such task; the message lists the included ones.
    """
    package = Path(__file__).resolve().parent
    shelves = (package / "tasks", package.parent / "configs")  # installed, or in a checkout
    try:
        for folder in (Path(task), *(shelf / task for shelf in shelves)):
            if (folder / VALUES).is_file():
                return folder
    except OSError as error:  # such as a name that is too long
        raise BundleError(f"a task must be a readable folder, got {error.strerror} for {at(Path(task))}") from error
    if is_zip(Path(task)):
        raise BundleError(f"a task must be a folder, got the zip {task}; unzip it first, and name the folder")
    raise BundleError(f"a task must be a folder with {VALUES}, or one of {_included(shelves)}, got {task}")


def _included(shelves: Sequence[Path]) -> str:
    """List the included tasks; those without weights last, with the way to get some."""
    folders = {path.parent.name: path.parent for shelf in shelves for path in sorted(shelf.glob(f"*/{VALUES}"))}
    trained = [name for name, folder in sorted(folders.items()) if (folder / TRAINED).is_file()]
    others = [name for name in sorted(folders) if name not in trained]
    without = [f"without weights, to train with `unetpp train NAME`: {', '.join(others)}"] if others else []
    return "; ".join([", ".join(trained) or "none", *without])


def read_task(task: str | Path) -> Task:
    """Read the two files of a task, unchecked.

    Raises:
        BundleError: no such task, or a file is missing or not a JSON object.
    """
    folder = find_task(task)
    return Task(folder, read_object(folder / VALUES), read_object(folder / DESCRIPTION))


def base_config(name: str) -> dict[str, Any]:
    """Read one of `CONFIGS`, or "metadata", of the base."""
    return read_object(BASE / f"{name}.json")


def check_task(task: str | Path | Task, *, overrides: Mapping[str, Any] | None = None) -> Task:
    """Check that a task fits the base.

    All faults are listed at once. No data are read.

    Args:
        task: as for `find_task`, or an already read one.
        overrides: values of one run, which override task.json.

    Returns:
        The task, as it was read.

    Raises:
        BundleError: no such task, or it does not fit: an unknown key, a wrong type or length, something missing.

    Example:
        >>> check_task("nuclei_2d").values["spatial_dims"]
        2
    """
    found = task if isinstance(task, Task) else read_task(task)
    base = {**base_config("inference"), **base_config("train")}
    types = value_types(base)
    stated = {**found.values, **(overrides or {})}
    faults = [f"{VALUES}: {fault}" for fault in _overlay_faults(stated, base, types)]
    known = {key: value for key, value in stated.items() if key in types and not is_structure(value)}
    faults += [f"{VALUES}: {fault}" for fault in value_faults({**base, **known}, types)]
    faults += [f"{DESCRIPTION}: {fault}" for fault in _metadata_faults(found.metadata, {**base, **known})]
    if faults:
        raise BundleError(_message(f"the task in {found.folder} must fit the base", faults))
    return found


def check_run() -> None:
    """Check the config that MONAI's runner is about to run; the base's configs call this first.

    MONAI passes an expression only what it refers to. A key without reference, such as a mistyped one, is only in the
    whole config, which is taken from the calling resolver.

    Raises:
        BundleError: as for `check_task`, for base, task and command line together.
    """
    from monai.bundle.reference_resolver import ReferenceResolver

    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ReferenceResolver):
        frame = frame.f_back
    if frame is None:
        raise BundleError("check_run must be called by a config that MONAI runs, got another caller; use check_task")
    say_ours_last()
    resolver: ReferenceResolver = frame.f_locals["self"]
    config = dict(resolver.items[""].get_config())
    faults = list(_choices_of_run(config, resolver.get_resolved_content))
    if faults := [*faults, *_run_faults(config)]:
        raise BundleError(_message("base, task and options must fit each other", faults))


def _message(constraint: str, faults: list[str]) -> str:
    return "\n- ".join([f"{constraint}, got {counted(len(faults), 'fault')}:", *faults])


def _overlay_faults(values: Mapping[str, Any], base: Mapping[str, Any], types: Mapping[str, object]) -> Iterator[str]:
    """Yield keys missing in the base, and values that are not plain."""
    for key, value in values.items():
        if "#" in key or "::" in key or key.startswith("+"):
            yield f"keys must be those of the base's top level, got {key!r}"
        elif key in types and is_structure(value):
            yield f"{key} must be a plain value, got {value!r}; expressions and components belong to the base"
        elif key in base and key not in types:
            yield f"keys must be values, got {key!r}, which the base builds or computes"
        elif key not in base:
            yield unknown_key(key, types, "the base")


def _metadata_faults(metadata: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    base = base_config("metadata")
    known = dict.fromkeys([*base, *OPTIONAL])
    yield from (unknown_key(key, known, "the base") for key in metadata if key not in known)
    if missing := [key for key in base if {**base, **metadata}[key] is None]:
        yield f"a task must state {', '.join(missing)}, got none"
    for key in ("name", "version", "task", "authors", "copyright"):
        if metadata.get(key) is not None and not (isinstance(metadata[key], str) and metadata[key].strip()):
            yield f"{key} must be a text, got {metadata[key]!r}"
    objects = [key for key in ("changelog", "review", "depths", "eval_metrics", "label_codes") if key in metadata]
    if wrong := [key for key in objects if not isinstance(metadata[key], Mapping)]:
        yield f"{', '.join(wrong)} must be an object, got {metadata[wrong[0]]!r}"
        return
    changelog, version = metadata.get("changelog", {}), metadata.get("version")
    if changelog and next(iter(changelog)) != version:
        yield f"the first entry of changelog must be the version, {version}, got {next(iter(changelog))}"
    review = dict.fromkeys(REVIEW)
    yield from (unknown_key(key, review, "review") for key in metadata.get("review", {}) if key not in review)
    for key, kind in (("plausible", Plausible), ("gates", Gates)):
        if metadata.get(key) is not None:
            try:
                kind.from_json(metadata[key])
            except BundleError as error:
                yield str(error)
    if metadata.get("network_data_format") is not None:
        yield from _format_faults(metadata, values)


def _format_faults(metadata: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield contradictions between metadata and values in channels and labels."""
    try:
        image = metadata["network_data_format"]["inputs"]["image"]
        pred = metadata["network_data_format"]["outputs"]["pred"]
        result = metadata.get("result_labels", {})
        counts = (  # what, how many, key of the values, which says how many
            ("inputs.image.num_channels", image["num_channels"], "in_channels", values["in_channels"]),
            ("inputs.image.channel_def", len(image["channel_def"]), "in_channels", values["in_channels"]),
            ("inputs.image.spatial_shape", len(image["spatial_shape"]), "spatial_dims", values["spatial_dims"]),
            ("outputs.pred.num_channels", pred["num_channels"], "out_channels", values["out_channels"]),
            ("outputs.pred.channel_def", len(pred["channel_def"]), "out_channels", values["out_channels"]),
            ("result_labels", len(result), "locator_labels", result_channels(values) if has_locator(values) else 0),
        )
        named = {"outputs.pred.channel_def": dict(pred["channel_def"]), "result_labels": dict(result)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"network_data_format must describe inputs.image and outputs.pred, got {error!r}"
        return
    for what, count, key, wanted in counts:
        if wanted is not None and count != wanted:
            yield f"{what} must agree with {key} of {VALUES}, {wanted}, got {count}"
    for what, names in named.items():
        texts = all(isinstance(name, str) and not is_structure(name) for name in names.values())
        if not texts:
            yield f"{what} must be texts that begin with no $, @ or %, which MONAI computes, got {names}"
        elif sorted(names) != sorted(map(str, range(len(names)))) or len(set(names.values())) < len(names):
            yield f"{what} must name the labels 0, 1, ..., each differently, got {names}"
    try:
        read_labels(metadata)
    except BundleError as error:
        yield str(error)


def _choices_of_run(config: dict[str, Any], resolve: Callable[[str], Any]) -> Iterator[str]:
    """Insert the depth that a run refers to, and yield invalid depths and devices."""
    for key in ("depth", "device"):
        try:
            value = resolve(key) if key in config else None
        except (RuntimeError, ValueError, KeyError) as error:  # MONAI's
            yield f"{key} must be a value, got {config[key]!r} ({clipped(error.__cause__ or error, 120)})"
            continue
        if key == "depth" and key in config:
            config[key] = "full" if value is None else value  # None: as 0.5.2 said it
        elif fault := _device_fault(value):
            yield fault


def _device_fault(device: Any) -> str:
    """Return why a run cannot use a device; empty if it can."""
    import torch

    try:
        found = None if device is None else torch.device(device)
    except (RuntimeError, TypeError):
        return f"device must be cpu or cuda:N, got {device!r}"
    gpus = torch.cuda.device_count()
    if found is not None and found.type == "cuda" and (found.index or 0) >= gpus:
        return f"device must exist, got {str(device)!r} on a machine with {counted(gpus, 'GPU')}; use cpu"
    return ""


def _run_faults(config: Mapping[str, Any]) -> Iterator[str]:
    from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

    base = {key.split("#")[0]: value for name in CONFIGS for key, value in base_config(name).items()}
    monais = DEFAULT_MLFLOW_SETTINGS["configs"]  # what `--tracking` adds
    known = {**base, **dict.fromkeys([*monais, "_meta_", "finalize"])}
    text = repr(config)
    for key, value in config.items():
        if key not in known and not is_structure(value) and not re.search(rf"@{re.escape(key)}\b", text):
            yield unknown_key(key, base, "the base")
    yield from value_faults(config, {key: types for key, types in value_types(base).items() if key in config})
