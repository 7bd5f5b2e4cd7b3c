"""Contenders: our session at a depth, and a random walker on our probabilities that nobody trained to be corrected."""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpp_monai import Segmenter, Volume
from unetpp_monai.depth import DepthLike
from unetpp_monai.interactive import Point, Prompt, Session

from .robot import Case, Corrector, Labels

REACH, BALL = 24.0, 2.0  # mm around a click that the walker decides anew, and that the click itself marks
SURE = 0.95  # probability from which on a voxel is a seed of its label
BETA, ROUGH = 130.0, 1e-2  # scikit-image's own penalty, and how exactly the walker solves


class Ours(Corrector):
    """Our session.

    Args:
        segmenter: of an interactive bundle.
        depth: of every answer.
    """

    def __init__(self, segmenter: Segmenter, depth: DepthLike) -> None:
        self.segmenter, self.depth = segmenter, depth
        self.session: Session | None = None

    def begin(self, case: Case) -> Labels:
        """Prepare the image, and segment it."""
        self.session = self.segmenter.session(case.image)
        return self.session.labels(self.depth).array[0]

    def add(self, prompt: Prompt) -> Labels:
        """Segment with one prompt more."""
        assert self.session is not None
        self.session.add(prompt)
        return self.session.labels(self.depth).array[0]


class RandomWalker(Corrector):
    """Correction without training: around each click a random walker decides anew, on our probabilities.

    Seeds are the clicks, and voxels of which the network is sure.

    Args:
        segmenter: whose probabilities are walked on; at full depth, without prompts.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        if importlib.util.find_spec("skimage") is None:
            raise SystemExit("the random walker is scikit-image's: pip install scikit-image")
        self.segmenter = segmenter

    def begin(self, case: Case) -> Labels:
        """Segment, and keep the probabilities on the image's grid."""
        self.image = case.image
        self.labels: Labels = self.segmenter(case.image).labels.array[0].copy()
        self.probabilities = probabilities_of(self.segmenter, case.image)
        self.clicked = np.full(self.labels.shape, -1, np.int16)
        return self.labels.copy()

    def add(self, prompt: Prompt) -> Labels:
        """Decide anew around a click."""
        from skimage.segmentation import random_walker

        assert isinstance(prompt, Point)
        voxel = np.rint(np.linalg.inv(self.image.affine) @ [*prompt.position, 1])[:3].astype(int)
        self.clicked[self._around(voxel, BALL)] = int(prompt.label)
        box = self._around(voxel, REACH)
        chances, clicked = self.probabilities[(slice(None), *box)], self.clicked[box]
        seeds = np.where(chances.max(0) >= SURE, chances.argmax(0) + 1, 0)
        near = np.zeros(self.labels.shape, bool)
        near[self._around(voxel, REACH / 3)] = True
        seeds[near[box]] = 0  # the network was wrong here, however sure
        seeds = np.where(clicked >= 0, clicked + 1, seeds)
        if len(np.unique(seeds[seeds > 0])) > 1:
            data = np.moveaxis(chances, 0, -1)
            spacing = np.asarray(self.image.spacing)
            self.labels[box] = (
                random_walker(data, seeds, beta=BETA, mode="cg_j", tol=ROUGH, channel_axis=-1, spacing=spacing) - 1
            )
        return self.labels.copy()

    def _around(self, voxel: NDArray[np.integer], reach: float) -> Any:
        steps = [int(np.ceil(reach / length)) for length in self.image.spacing]
        ends = zip(voxel, steps, self.labels.shape, strict=True)
        return tuple(slice(max(at - step, 0), min(at + step + 1, size)) for at, step, size in ends)


def probabilities_of(segmenter: Segmenter, image: Volume) -> NDArray[np.float32]:
    """Softmax `(labels, X, Y, Z)` of the network at full depth, on the image's grid."""
    import torch
    from monai.transforms import ResampleToMatch

    from unetpp_monai.io.monai_reader import metadata, spatial_array

    prepared = segmenter.prepare(image)
    grid = prepared.data["image"]
    slabs = segmenter._inferer.slabs(torch.as_tensor(grid.as_tensor())[None], segmenter.predictor("full"))
    with torch.inference_mode():
        logits = torch.cat([slab.logits for slab in slabs], 1)
        chances = type(grid)(logits.softmax(0), affine=grid.affine)
        like = type(grid)(torch.as_tensor(spatial_array(image, 3).astype(np.float32)), meta=metadata(image, 3))
        found = ResampleToMatch(mode="bilinear", padding_mode="border")(chances, like)
    return np.asarray(found.as_tensor(), np.float32)
