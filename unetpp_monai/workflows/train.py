"""Train a task by MONAI's own workflow: the base's train.json, the task's values, and those of one run."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, UnetppError
from ..task import BASE, DESCRIPTION, TRAINED, VALUES, check_task


def train(
    task: str | Path,
    *,
    output_dir: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """Train a task; what `monai.bundle run` does with the same configs.

    Args:
        task: folder of a task, or the name of one that came with the package.
        output_dir: for the weights, the progress and the logs; None = `runs/<task>` here.
        dataset_dir: of the data; None = as the task states it.
        overrides: values that come before those of the task, such as `{"max_epochs": 10}`.

    Returns:
        The file of the best weights.

    Raises:
        BundleError: the task does not fit the base, see `check_task`.
        InputError: the data cannot be read, or a package is missing.
        OutputError: the folder cannot be written.
    """
    values = {**({} if dataset_dir is None else {"dataset_dir": str(dataset_dir)}), **(overrides or {})}
    checked = check_task(task, overrides=values)
    if missing := [name for name in ("ignite", "tensorboard") if find_spec(name) is None]:
        raise InputError(f"training needs {' and '.join(missing)}; pip install 'unetpp_monai[bundle]'")
    output = Path("runs") / checked.name if output_dir is None else Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} must be a folder we can write to, got {error.strerror}; choose another") from error
    places = {key: str(output) for key in ("bundle_root", "ckpt_dir", "output_dir")}
    if listed := checked.values.get("cases_file"):
        places["cases_file"] = str(checked.folder / listed)
    try:
        _run(checked.folder, {**places, **values})
    except RuntimeError as error:
        raise _cause(error) from error
    return output / TRAINED


def _run(folder: Path, overrides: Mapping[str, Any]) -> None:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=[str(BASE / "train.json"), str(folder / VALUES)],
        meta_file=[str(BASE / "metadata.json"), str(folder / DESCRIPTION)],
        logging_file=str(BASE / "logging.conf"),
        workflow_type="train",
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _cause(error: BaseException) -> BaseException:
    """The error of ours that MONAI wrapped, or the given one."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, UnetppError):
        inner = inner.__cause__
    return inner or error
