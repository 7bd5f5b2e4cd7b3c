"""Batch inference: segment many images in turn with one model, and store results as labels."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from ..depth import Depth
from ..errors import InputError, UnetppError
from ..runtimes.backend import choose_device
from .model_registry import option_value

ANY_GPU = "cuda"  # MONAI Label's default on any machine; means the server's device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOptions:
    """A client's options for a batch. `multi_gpu`, `gpus` and `max_workers` are ignored: images come in turn."""

    device: str | None = None  # as for `Segmenter`; None: the server's
    depth: str | None = None  # as for `Depth.parse`; None: the bundle's
    label_tag: str = DefaultLabelTag.ORIGINAL.value
    max_batch_size: int = 0  # most images; 0: all

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> "BatchOptions":
        """Read and check the options of a request; others are ignored.

        Raises:
            InputError: invalid option.
        """
        device, depth = option_value(request.get("device")), option_value(request.get("depth"))
        tag, most = request.get("label_tag") or DefaultLabelTag.ORIGINAL.value, request.get("max_batch_size") or 0
        if device is not None and device != ANY_GPU:
            choose_device(str(device))
        if depth is not None:
            Depth.parse(depth)
        check_result_tag(tag)
        if not isinstance(most, int) or most < 0:
            raise InputError(f"max_batch_size must be a whole number >= 0, got {most!r}")
        return cls(None if device in (None, ANY_GPU) else str(device), None if depth is None else str(depth), tag, most)


def check_result_tag(tag: object) -> None:
    """Check the tag under which a network's result is stored.

    Raises:
        InputError: not "original"; a network never replaces annotators' labels.
    """
    if tag != DefaultLabelTag.ORIGINAL.value:
        raise InputError(f"label_tag of a result must be original, got {str(tag)[:50]!r}; final labels are people's")


class BatchInfer:
    """Called by MONAI Label in the child process of a batch."""

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Segment images, and store the results.

        Args:
            request: `model`, `images` ("all", "labeled", "unlabeled"), and options of `BatchOptions`.
            datastore: of the studies.
            infer: the app's.

        Returns:
            Label or error message by image.
        """
        options = BatchOptions.of(request)
        images = {"labeled": datastore.get_labeled_images, "unlabeled": datastore.get_unlabeled_images}
        chosen = sorted(images.get(str(request.get("images")), datastore.list_images)())
        chosen = chosen[: options.max_batch_size or None]
        wanted = {key: value for key, value in (("device", options.device), ("depth", options.depth)) if value}
        results: dict[str, Any] = {}
        for done, image in enumerate(chosen, start=1):
            one = {**wanted, "model": request["model"], "image": image, "save_label": True}
            try:
                answer = infer({**one, "label_tag": options.label_tag}, datastore)
            except UnetppError as error:  # of this image; continue with the others
                logger.warning("an image cannot be segmented: %s", error)
                results[image] = {"error": str(error)}
            else:
                Path(answer.pop("file")).unlink(missing_ok=True)
                results[image] = answer
            logger.info("segmented %d of %d", done, len(chosen))
        return results
