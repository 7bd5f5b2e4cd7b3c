"""Training task: fine-tune a bundle on submitted labels, and serve the result if it is no worse."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from ..bundle import read_bundle
from ..errors import InputError
from ..runtimes.backend import choose_device
from .datastores import image_path
from .fine_tuning import TRAIN, Options, check_options, fine_tune, read_progress
from .model_registry import device_choices, option_value
from .training_cases import Labelled, cases_for

logger = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {"max_epochs": 20, "learning_rate": 0.0003, "val_split": 0.2}


def trainers(bundles: Mapping[str, Path], device: str, *, trust: bool = False) -> dict[str, TrainTask]:
    """Return training tasks by model name; a bundle without `train.json`, such as one with two networks, has none.

    Args:
        bundles: folder of each served bundle by model name; copies whose weights may change.
        device: as `choose_device` takes it, where a request names none.
        trust: their configs may run anything, see `read_bundle`.
    """
    return {
        model: FineTuneTask(root, [other for other in bundles.values() if other != root], device=device, trust=trust)
        for model, root in bundles.items()
        if (root / TRAIN).is_file()
    }


class FineTuneTask(TrainTask):
    """Fine-tuning of one bundle by its own `train.json`.

    MONAI Label runs it in a child process, shows clients the last 20 lines of its log, and stops it by killing it.
    The datastore is only read, so killing is safe at any time.

    Args:
        root: folder of the bundle.
        others: folders of the other served bundles; cases with only their structures are skipped.
        device: as `choose_device` takes it, where a request names none.
        trust: its configs may run anything, see `read_bundle`.
    """

    def __init__(self, root: Path, others: Sequence[Path] = (), *, device: str = "auto", trust: bool = False) -> None:
        super().__init__("Fine-tune the served weights on the submitted labels; serve the result if no worse")
        self.root, self.others, self.device, self.trust = root, list(others), device, trust

    def config(self) -> dict[str, Any]:
        """Return options with defaults for clients."""
        return {**DEFAULTS, "device": device_choices(self.device)}

    def stats(self) -> dict[str, Any]:
        """Return the progress of the current or last training."""
        return read_progress(self.root)

    def checked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a request; others are dropped.

        Raises:
            InputError: an invalid one, or no such device.
        """
        self._options(request)
        return {key: request[key] for key in (*DEFAULTS, "device") if key in request}

    def _options(self, request: Mapping[str, Any]) -> Options:
        given = {key: request.get(key, default) for key, default in DEFAULTS.items()}
        try:
            epochs, rate, share = (type(default)(given[key]) for key, default in DEFAULTS.items())
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"options must be numbers, got {given}") from error
        device = str(choose_device(option_value(request.get("device")) or self.device))
        options = Options(max_epochs=epochs, learning_rate=rate, val_split=share, device=device, trust=self.trust)
        check_options(options)
        return options

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Args:
            request: options of `config`; others are ignored.
            datastore: with images and submitted labels (tag `final`).

        Returns:
            `version` now served (None: unchanged) and the last progress.

        Raises:
            UnetppError: no such device, or see `fine_tune`; clients see its message last.
        """
        options = self._options(request)
        submitted = labelled(datastore)
        others = [label for other in self.others for label in read_bundle(other).labels]
        cases = cases_for(submitted, read_bundle(self.root).labels, others)
        if len(cases) < len(submitted):
            logger.info("%d labelled images have structures of other bundles only", len(submitted) - len(cases))
        version = fine_tune(self.root, cases, options)
        return {"version": version.number if version else None, **self.stats()}


def labelled(datastore: Datastore) -> list[Labelled]:
    """List the labelled cases of a datastore; those of a DICOMweb server are downloaded."""
    cases = []
    for name in sorted(datastore.get_labeled_images()):  # the datastore's own paths would resolve links
        image = image_path(datastore, name)
        label = Path(datastore.get_label_uri(name, DefaultLabelTag.FINAL))
        info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
        values = {int(entry["idx"]): str(entry["name"]) for entry in info.get("label_info") or [] if "idx" in entry}
        cases.append(Labelled(name, image, label, values))
    return cases
