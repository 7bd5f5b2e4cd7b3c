"""Training task: fine-tune a bundle on the labels that were submitted, and serve the result if it is no worse."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from ..io.cases import case_name
from .fine_tuning import Options, fine_tune, read_progress
from .labelled import Labelled

DEFAULTS = {"max_epochs": 20, "learning_rate": 0.0003, "val_split": 0.2}


def trainers(bundles: Mapping[str, Path]) -> dict[str, TrainTask]:
    """Training tasks by the name of their model.

    Args:
        bundles: folder of each served bundle by its model's name; copies, whose weights may change.
    """
    return {model: FineTuneTask(root) for model, root in bundles.items()}


class FineTuneTask(TrainTask):
    """Fine-tuning of one bundle by its own `train.json`.

    MONAI Label runs it in a process of its own, shows clients the last 20 lines of its log, and ends it by killing it.
    The datastore is only read, so that it stays as it is whenever that happens.

    Args:
        root: folder of the bundle.
    """

    def __init__(self, root: Path) -> None:
        super().__init__("Train on from the served weights with the submitted labels; serve the result if no worse")
        self.root = root

    def config(self) -> dict[str, Any]:
        """Options with their defaults, as clients show them."""
        return {**DEFAULTS, "device": device_list()}

    def stats(self) -> dict[str, Any]:
        """Progress of the present or last training."""
        return read_progress(self.root)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Args:
            request: options of `config`; others are ignored.
            datastore: with images and submitted labels (tag `final`).

        Returns:
            `version` that is served now (None: the old one stays) and the last progress.

        Raises:
            UnetppError: see `fine_tune`; its message is the last line that clients see.
        """
        options = Options(
            max_epochs=int(request.get("max_epochs", DEFAULTS["max_epochs"])),
            learning_rate=float(request.get("learning_rate", DEFAULTS["learning_rate"])),
            val_split=float(request.get("val_split", DEFAULTS["val_split"])),
            device=name_to_device(request.get("device")),
        )
        version = fine_tune(self.root, labelled(datastore), options)
        return {"version": version.number if version else None, **self.stats()}


def labelled(datastore: Datastore) -> list[Labelled]:
    """List the labelled cases of a datastore; those of a DICOMweb server are downloaded."""
    cases = []
    for item in datastore.datalist():
        image, label = Path(item["image"]), Path(item["label"])
        name = case_name(image)
        info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
        values = {int(entry["idx"]): str(entry["name"]) for entry in info.get("label_info") or [] if "idx" in entry}
        cases.append(Labelled(name, image, label, values))
    return cases
