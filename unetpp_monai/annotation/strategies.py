"""Which image an annotator gets next: least certain first, at random, or by name.

All three give unlabelled images only, and different ones to annotators who work at the same time. MONAI Label notes in
an image's info who got it and when; for an hour others get it only if nothing else is left, and who asks again
(having labelled nothing) gets another one too, so that an image can be left out. It comes back when all were seen.
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
from .scores import Score, choose, read_scores, urgency

INFO = "uncertainty"  # key of an image's info under which its scores stand, by model

Order = Callable[[dict[str, Any], Datastore, list[str]], list[str]]

logger = logging.getLogger(__name__)


def strategies(bundles: Mapping[str, Path]) -> dict[str, Strategy]:
    """Strategies by the name that a client asks for.

    Args:
        bundles: folder of each served bundle by its model's name; it holds the scores.
    """
    return {
        "least_certain": LeastCertain(bundles),
        "random": Ordered("Any unlabelled image", _shuffled),
        "first": Ordered("The first unlabelled image by name", _by_name),
    }


class Ordered(Strategy):
    """The first image of an order that no other client was given lately.

    Args:
        description: for people.
        order: gives the unlabelled images, best first.
    """

    def __init__(self, description: str, order: Order) -> None:
        super().__init__(description)
        self.order = order

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image.

        Args:
            request: may hold `client_id`, and `model` where several are served.
            datastore: of the studies.

        Returns:
            `id` of the image; None if all are labelled, or none of the others can be read.

        Raises:
            UnavailableError: the archive cannot be reached.
        """
        images = self.order(request, datastore, list(datastore.get_unlabeled_images()))
        infos = {image: datastore.get_image_info(image) for image in images}
        while (chosen := choose(images, infos, client=request.get("client_id"), now=time.time())) is not None:
            try:
                image_path(datastore, chosen)
            except InputError as error:  # it would be chosen again and again, as nobody can get it
                logger.warning("an image cannot be given to annotators: %s", type(error).__name__)
                images.remove(chosen)
            else:
                return {"id": chosen}
        return None


class LeastCertain(Ordered):
    """The image that the network is least sure of, as the scoring task found by the bundle's measure.

    Images in which nothing was found come first of all, then the scored ones by falling score, also if the score was
    made by an older version of the weights; images without a score follow by name, and those that could not be
    segmented come last. Nothing is computed here: an annotator never waits for a score.

    Args:
        bundles: folder of each served bundle by its model's name.
    """

    def __init__(self, bundles: Mapping[str, Path]) -> None:
        super().__init__("The unlabelled image that the network is least certain of", self._by_score)
        self.bundles = bundles

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image, as `Ordered`, and say how many have a score.

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
        return sorted(images, key=lambda image: (*urgency(scores.get(image)), image))


def note_scores(datastore: Datastore, model: str, scores: Mapping[str, Score]) -> None:
    """Write scores into the datastore's image infos, where clients see them; called by the server's process only.

    MONAI Label's datastore is one JSON file that every process writes as a whole from what it read earlier. A child
    process that wrote to it could undo what the server noted meanwhile, such as a label that was just saved.
    """
    for image in datastore.list_images():
        noted = datastore.get_image_info(image).get(INFO, {})
        score = scores.get(image)
        if score is not None and noted.get(model) != score.as_info():
            try:
                datastore.update_image_info(image, {INFO: {**noted, model: score.as_info()}})
            except ImageNotFoundException:  # a DICOMweb series has no entry until it was downloaded
                logger.debug("an image has no entry in the datastore yet")


def _shuffled(request: dict[str, Any], datastore: Datastore, images: list[str]) -> list[str]:
    return random.sample(images, len(images))


def _by_name(request: dict[str, Any], datastore: Datastore, images: list[str]) -> list[str]:
    return sorted(images)
