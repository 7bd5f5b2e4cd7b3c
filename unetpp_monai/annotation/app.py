"""The MONAI Label app: which models, options, strategies, scoring methods and trainers the server offers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.task import AsyncTask

from ..bundle import read_bundle
from ..labels import Label
from ..pacs import Access
from ..pacs.dicomweb import Dicomweb
from .datastores import DicomwebStudies, LocalStudies
from .infer import SegmentTask
from .model_registry import Served
from .scoring import scoring_methods
from .strategies import strategies
from .training import trainers

FETCHED = "fetched"  # folder of series from a DICOMweb server, in the server's own folder


class LabelApp(MONAILabelApp):
    """Segments with our bundles, chooses what to annotate next, and learns from it.

    Built in the server, and again in each process that trains or scores for it.

    Args:
        app_dir: the server's own folder.
        studies: folder, or address of a DICOMweb server.
        conf: `bundles` (JSON list of folders), `device`, `runtime`, `ca` (PEM file, or empty).
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        folders = [Path(folder) for folder in json.loads(conf["bundles"])]
        served = [Served(folder, device=conf["device"], runtime=conf["runtime"]) for folder in folders]
        self.device = conf["device"]
        self.served = {one.name: one for one in served}
        self.folders = {one.name: one.root for one in served}
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="UNet++",
            description="UNet++: one set of weights, any depth",
        )

    def load(self) -> None:
        """Load every bundle now.

        Raises:
            BundleError: one whose parts do not fit each other.
        """
        for served in self.served.values():
            served.segmenter()

    def labels_served(self) -> Sequence[Sequence[Label]]:
        """Labels of each bundle."""
        return [read_bundle(folder).labels for folder in self.folders.values()]

    def init_datastore(self) -> Datastore:
        """Open the studies."""
        if not self.studies.startswith(("http://", "https://")):
            return LocalStudies(
                Path(self.studies),
                self.labels_served,
                extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
                auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            )
        access = Access(
            settings.MONAI_LABEL_DICOMWEB_USERNAME or None,
            settings.MONAI_LABEL_DICOMWEB_PASSWORD or None,
            ca=Path(self.conf["ca"]) if self.conf.get("ca") else None,
        )
        modalities = [read_bundle(folder).input.modality for folder in self.folders.values()]
        folder = Path(self.app_dir) / FETCHED
        return DicomwebStudies(Dicomweb(self.studies, access), folder, self.labels_served, modalities)

    def init_infers(self) -> dict[str, InferTask]:
        """One model per bundle."""
        return {name: SegmentTask(served, self.source) for name, served in self.served.items()}

    def source(self, image: Path) -> Path:
        """What to read for a path of the datastore."""
        return self.datastore().source(image)  # type: ignore[no-any-return]

    def init_strategies(self) -> dict[str, Strategy]:
        """Orders in which images come to annotators."""
        return strategies(self.folders)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Ways to tell which images are hard."""
        return scoring_methods(self.folders, self.device)

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> Any:
        """Start a scoring task; where MONAI Label starts all by itself, only those with something new to score."""
        if method is not None:
            return super().async_scoring(method, params)
        if self._server_mode and AsyncTask.status("scoring", check_if_running=True)[0]:
            return {}
        due = [name for name, task in self._scoring_methods.items() if task.is_due(self.datastore())]
        return {name: super(LabelApp, self).async_scoring(name, params) for name in due}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One trainer per bundle."""
        return trainers(self.folders, self.device)
