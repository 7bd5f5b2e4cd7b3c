"""The MONAI Label app: models, options, strategies, scoring methods and trainers of the server."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.task import AsyncTask

from ..bundle import read_bundle
from ..labels import Label
from ..pacs import Credentials
from ..pacs.dicomweb import Dicomweb
from .background import start
from .batch import BatchInfer, check_result_tag
from .datastores import DicomwebStudies, LocalStudies
from .infer import SegmentTask, flag
from .model_registry import Served
from .scoring import scoring_methods
from .server import TOKEN
from .strategies import strategies
from .training import trainers

FETCHED = "fetched"  # folder of series from a DICOMweb server, in the server's own folder

logger = logging.getLogger(__name__)


class LabelApp(MONAILabelApp):
    """Segments with our bundles, chooses images to annotate, and trains on the labels.

    Created in the server, and in each process that trains or scores for it.

    Args:
        app_dir: the server's own folder.
        studies: folder, or address of a DICOMweb server.
        conf: `bundles` (JSON list of folders), `device`, `runtime`, `ca` (PEM file, or empty), `any_modality` and
            `trust` ("yes" or empty), `server` (its address, for its child processes).
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        folders = [Path(folder) for folder in json.loads(conf["bundles"])]
        self.device, self.trust = conf["device"], bool(conf.get("trust"))
        served = [Served(folder, device=self.device, runtime=conf["runtime"], trust=self.trust) for folder in folders]
        self.any_modality = bool(conf.get("any_modality"))
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
            BundleError: a bundle whose parts do not fit.
        """
        for served in self.served.values():
            served.segmenter()

    def labels_served(self) -> Sequence[Sequence[Label]]:
        """Labels of each bundle."""
        return [read_bundle(folder).labels for folder in self.folders.values()]

    def init_datastore(self) -> Datastore:
        """Open the studies."""
        if not self.studies.startswith(("http://", "https://")):
            endings = settings.MONAI_LABEL_DATASTORE_FILE_EXT
            channels = [read_bundle(folder).channel_suffixes for folder in self.folders.values()]
            return LocalStudies(Path(self.studies), self.labels_served, extensions=endings, channels=channels)
        access = Credentials(
            settings.MONAI_LABEL_DICOMWEB_USERNAME or None,
            settings.MONAI_LABEL_DICOMWEB_PASSWORD or None,
            ca=Path(self.conf["ca"]) if self.conf.get("ca") else None,
        )
        bundles = [] if self.any_modality else self.folders.values()
        modalities = [read_bundle(folder).input.modality for folder in bundles]
        folder = Path(self.app_dir) / FETCHED
        return DicomwebStudies(Dicomweb(self.studies, access), folder, self.labels_served, modalities)

    def init_infers(self) -> dict[str, InferTask]:
        """One model per bundle."""
        return {
            name: SegmentTask(served, self.source, any_modality=self.any_modality)
            for name, served in self.served.items()
        }

    def source(self, image: Path) -> Path:
        """Return the source to read for a path of the datastore."""
        return self.datastore().source(image)  # type: ignore[no-any-return]

    def prompt_keys(self, model: str) -> tuple[str, ...]:
        """Return the keys of a request with prompts; none for models without prompts."""
        return self._infers[model].prompt_keys()  # type: ignore[no-any-return]

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the orders in which annotators get images."""
        return strategies(self.folders)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the methods that score images."""
        return scoring_methods(self.folders, self.device, trust=self.trust)

    def init_batch_infer(self) -> BatchInfer:
        """Return the task for many images."""
        return BatchInfer()

    def trainers(self) -> Mapping[str, TrainTask]:
        """Trainers by name."""
        return self._trainers  # type: ignore[no-any-return]

    def strategies(self) -> Mapping[str, Strategy]:
        """Strategies by name."""
        return self._strategies  # type: ignore[no-any-return]

    def scoring_methods(self) -> Mapping[str, ScoringMethod]:
        """Scoring methods by name."""
        return self._scoring_methods  # type: ignore[no-any-return]

    def channels(self) -> set[int]:
        """Return the numbers of channels of the bundles."""
        return {read_bundle(folder).input.channels for folder in self.folders.values()}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment an image.

        Args:
            request: `model`, and `image`, an id of the datastore, or `file`, a path that no client wrote; options as in
                `SegmentTask`; `save_label` keeps the result of an id as label `label_tag`.
            datastore: of the studies; None: the app's.

        Returns:
            As in MONAI Label: `file`, `params` (the report), `label`, `tag`.

        Raises:
            ImageNotFoundException: no such image.
            UnetppError: no result.
        """
        studies, image = datastore or self.datastore(), request.get("image")
        path = request.get("file") or studies.get_image_uri(image)
        if not path:
            raise ImageNotFoundException(f"image must be one of the datastore's, got {image!r}")
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL.value
        keep = flag(request, "save_label") and not request.get("file")
        if keep:
            check_result_tag(tag)
        file, report = self._infers[request["model"]]({**request, "image": path})
        label = file
        if keep:
            names = [{"name": name, "idx": index} for name, index in report["label_names"].items()]
            info = {"model": request["model"], "params": report, "label_info": names}
            try:
                label = studies.save_label(image, file, tag, info)
            except Exception:
                Path(file).unlink(missing_ok=True)
                raise
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": report}

    def on_init_complete(self) -> None:
        """Start the work of the server process."""
        store = Path(self._sessions.store_path)
        for folder in store.iterdir() if store.is_dir() else ():
            if not (folder / "meta.info").is_file():  # interrupted upload
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(self.datastore(), LocalStudies) and not isinstance(self.datastore(), DicomwebStudies):
            self.datastore().watch()
        super().on_init_complete()

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> Any:
        """Start a scoring task; when MONAI Label starts all, only those with new images."""
        if method is None:
            if self._server_mode and AsyncTask.status("scoring", check_if_running=True)[0]:
                return {}
            due = [name for name, task in self._scoring_methods.items() if task.is_due(self.datastore())]
            return {name: self.async_scoring(name) for name in due}
        if self._server_mode:
            return start("scoring", {"method": method}, name="method", enqueue=True)
        return self._local_request(f"/scoring/{method}", params, "Scoring")

    def _local_request(self, url: str, params: dict[str, Any] | None, action: str) -> Any:
        """Send a request from a child process to the server, which may have ended."""
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = requests.post(f"{self.conf['server']}{url}", json=params or {}, headers=headers, timeout=60)
        except requests.RequestException as error:
            logger.warning("%s could not be requested: %s", action, type(error).__name__)
            return None
        return answer.json() if answer.ok else None

    def init_trainers(self) -> dict[str, TrainTask]:
        """One trainer per bundle."""
        return trainers(self.folders, self.device, trust=self.trust)
