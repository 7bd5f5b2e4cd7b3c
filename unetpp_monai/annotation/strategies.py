"""Choose the next image for an annotator: least certain first, random, or by name.

All strategies return unlabelled images only, and avoid images given to another annotator within the last hour (as
recorded by MONAI Label). Asking again without labelling skips an image until all were seen.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.strategy import Strategy

from ..errors import InputError
from .datastores import image_path
from .scores import Score, annotation_order, choose, read_scores

INFO = "uncertainty"  # key of an image's info with its scores by model

Order = Callable[[dict[str, Any], Datastore, list[str]], list[str]]

logger = logging.getLogger(__name__)


def strategies(bundles: Mapping[str, Path]) -> dict[str, Strategy]:
    """Return strategies by name.

    Args:
        bundles: folder of each served bundle, with its scores, by model name.
    """
    return {
        "least_certain": LeastCertain(bundles),
        "random": Ordered("Any unlabelled image", _shuffled),
        "first": Ordered("The first unlabelled image by name", _by_name),
    }


class Ordered(Strategy):
    """The first image of an order that no other client got recently.

    Args:
        description: for people.
        order: returns the unlabelled images, best first.
    """

    def __init__(self, description: str, order: Order) -> None:
        super().__init__(description)
        self.order = order

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image.

        Args:
            request: may have `client_id`, and `model` if several are served.
            datastore: of the studies.

        Returns:
            `id` of the image; None if all are labelled or unreadable.

        Raises:
            UnavailableError: the archive cannot be reached.
        """
        images = self.order(request, datastore, list(datastore.get_unlabeled_images()))
        infos = {image: datastore.get_image_info(image) for image in images}
        while (chosen := choose(images, infos, client=request.get("client_id"), now=time.time())) is not None:
            try:
                image_path(datastore, chosen)
            except InputError as error:  # else it would be chosen forever
                logger.warning("an image cannot be given to annotators: %s", type(error).__name__)
                images.remove(chosen)
            else:
                return {"id": chosen}
        return None


class LeastCertain(Ordered):
    """The least certain image, by the scores of the scoring task.

    Order: images in which nothing was found, then by falling score (also of older weights), images without score by
    name, and images that could not be segmented. Nothing is computed here, so annotators never wait.

    Args:
        bundles: folder of each served bundle by model name.
    """

    def __init__(self, bundles: Mapping[str, Path]) -> None:
        super().__init__("The unlabelled image that the network is least certain of", self._by_score)
        self.bundles = bundles

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image, as `Ordered`, and count scored images.

        Returns:
            `id` of the image and `scored`, such as "3 of 20"; None if all are labelled.
        """
        chosen = super().__call__(request, datastore)
        if chosen is not None:
            images, scores = datastore.get_unlabeled_images(), self._scores(request)
            chosen["scored"] = f"{sum(image in scores for image in images)} of {len(images)}"
        return chosen

    def _scores(self, request: dict[str, Any]) -> dict[str, Score]:
        model = request.get("model") or next(iter(self.bundles))
        return read_scores(self.bundles[model]) if model in self.bundles else {}

    def _by_score(self, request: dict[str, Any], datastore: Datastore, images: list[str]) -> list[str]:
        for model, root in self.bundles.items():
            note_scores(datastore, model, read_scores(root))
        scores = self._scores(request)
        return sorted(images, key=lambda image: (*annotation_order(scores.get(image)), image))


def note_scores(datastore: Datastore, model: str, scores: Mapping[str, Score]) -> None:
    """Copy scores to the datastore's image infos for clients; only in the server's process.

    MONAI Label's datastore is one JSON file, which each process overwrites as a whole. A child process that wrote to it
    could undo changes of the server, such as a label just saved.
    """
    for image in datastore.list_images():
        noted = datastore.get_image_info(image).get(INFO, {})
        score = scores.get(image)
        if score is not None and noted.get(model) != score.as_info():
            try:
                datastore.update_image_info(image, {INFO: {**noted, model: score.as_info()}})
            except ImageNotFoundException:  # a DICOMweb series has no entry until it is downloaded
                logger.debug("an image has no entry in the datastore yet")


def _shuffled(request: dict[str, Any], datastore: Datastore, images: list[str]) -> list[str]:
    return random.sample(images, len(images))


def _by_name(request: dict[str, Any], datastore: Datastore, images: list[str]) -> list[str]:
    return sorted(images)
