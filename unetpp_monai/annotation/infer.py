"""A bundle as inference task of MONAI Label: options, labels and colours in `/info/`, one result per request."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..bundle import WEIGHTS, Bundle, read_bundle
from ..depth import Depth
from ..errors import InputError
from ..interactive import BACKGROUND
from ..io import read_volume
from ..labels import label_colour
from .corrections import FOREGROUND, LABEL, SCRIBBLES, Corrected, Corrections, clicks_of
from .model_registry import Served, device_choices, option_value
from .results import ResultOptions, segment_image


class SegmentTask(InferTask):
    """Segments images with one bundle, one at a time.

    Args:
        served: the bundle.
        source: path in the datastore -> source to read instead, such as the DICOM series of a NIfTI file.
        any_modality: also accept DICOM of another modality than the bundle's.
    """

    def __init__(self, served: Served, source: Callable[[Path], Path], *, any_modality: bool = False) -> None:
        self.served, self.source, self.any_modality = served, source, any_modality
        self.corrections = Corrections()
        bundle = read_bundle(served.root)  # without weights: training processes create this task too
        super().__init__(
            type=InferType.DEEPEDIT if bundle.is_interactive else InferType.SEGMENTATION,
            labels=_labels(bundle),
            dimension=bundle.input.spatial_dims,
            description=str(bundle.metadata.get("description", served.name)),
        )

    def is_valid(self) -> bool:
        """Offer every readable bundle; requests report why one is unusable."""
        return True

    def config(self) -> dict[str, Any]:
        """Return options by name: the first of a list is the default, a bool becomes a check box."""
        segmenter = self.served.segmenter()
        every = segmenter.depths[0] == 1  # depth has a head
        choices = [Depth(), *([Depth(adaptive=True)] if every else []), *map(Depth, reversed(segmenter.depths))]
        choices.sort(key=lambda depth: depth != segmenter.default_depth)  # stable sort: the default comes first
        return {
            "device": device_choices(self.served.device),
            "depth": [str(depth) for depth in choices],
            **({"uncertainty": False} if every else {}),
        }

    def info(self) -> dict[str, Any]:
        """Return its entry in `/info/`, for the served weights."""
        bundle = self.served.bundle
        return {
            **super().info(),
            "labels": _labels(bundle),
            "label_colours": {label.name: label_colour(label) for label in bundle.labels},
            "version": bundle.version,
            "weights_sha256": bundle.weights_sha256,
        }

    def get_path(self, validate: bool = True) -> str:
        """Return the weights file, for download by `/model/`."""
        return str(self.served.root / WEIGHTS)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment `request["image"]`.

        Args:
            request: a path, options as in `config`, and `result_extension`, `result_dtype`, `result_compress`;
                `prompts`, as for `clicks_of`.

        Returns:
            A temporary file and the report.

        Raises:
            ImageNotFoundException: the datastore has no such image.
            UnetppError: the image cannot be segmented.
        """
        if not request.get("image"):
            raise ImageNotFoundException("image must be one of the datastore's, got another; ask for the next sample")
        options = ResultOptions(
            ending=request.get("result_extension"),
            depth=option_value(request.get("depth")),
            uncertainty=flag(request, "uncertainty"),
            dtype=str(request.get("result_dtype") or "uint8"),
            compress=flag(request, "result_compress"),
            any_modality=self.any_modality,
        )
        image = Path(request["image"])
        with self.served.lock:
            segmenter = self.served.segmenter(option_value(request.get("device")))
            source = self.source(image)
            names, dims = self._names(segmenter.bundle), segmenter.spatial_dims
            if clicks := clicks_of(request.get("prompts") or {}, names, spatial_dims=dims):
                affine = None if source == image else read_volume(image).affine
                held = None if request.get("file") else image
                segmenter = Corrected(segmenter, self.corrections, clicks, image=held, affine=affine)  # type: ignore[assignment]
            file, report = segment_image(segmenter, source, options)
        return str(file), report

    def prompt_keys(self) -> tuple[str, ...]:
        """Return the keys of a request with prompts."""
        bundle = self.served.bundle
        return (FOREGROUND, LABEL, SCRIBBLES, *self._names(bundle)) if bundle.is_interactive else ()

    @staticmethod
    def _names(bundle: Bundle) -> list[str]:
        return [BACKGROUND, *(label.name for label in bundle.labels)]


def _labels(bundle: Bundle) -> dict[str, int]:
    """Return labels for clients; with prompts, including the background."""
    void = {BACKGROUND: 0} if bundle.is_interactive else {}
    return {**void, **{label.name: label.index for label in bundle.labels}}


def flag(request: Mapping[str, Any], name: str) -> bool:
    """Return the value of a boolean option.

    Raises:
        InputError: neither true nor false.
    """
    value = request.get(name, False)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")
    return value
