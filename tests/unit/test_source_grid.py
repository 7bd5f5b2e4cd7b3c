"""Labels on the source grid: the same as MONAI's inversion, without its memory."""

from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Flipd, Invertd, Orientationd, Resized

from unetpp_monai import Volume
from unetpp_monai.inference import Slab
from unetpp_monai.inference.source_grid import SourceGrid
from unetpp_monai.inference.transforms import InvertLabelsd, Spacingd
from unetpp_monai.io.monai_reader import metadata

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.3, 0.1) @ np.diag([0.7, 1.9, 1.0]), (5, -3, 8))


def preprocessed(shape, affine, *extra, pixdim=(1.0, 1.0, 1.0), box=None):
    """A volume and what preprocessing makes of it; it is 0 outside a box of slices, which is cropped."""
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    crop = []
    if box is not None:
        outside = np.ones(shape, bool)
        outside[box] = False
        array[0][outside] = 0
        crop = [CropForegroundd("image", "image", select_fn=lambda image: image != 0, allow_smaller=True)]
    chain = Compose([Orientationd("image", "RAS", labels=None), *crop, Spacingd("image", pixdim), *extra])
    return chain, chain({"image": MetaTensor(torch.from_numpy(array), meta=metadata(Volume(array, affine), 3))})


def logits_for(image, channels=6):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, channels, 6, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, image.shape[1:], mode="trilinear")[0]


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(4),
        np.diag([-0.8, 1.3, 2.1, 1.0]),
        np.array([[0, -1.2, 0, 5], [0.9, 0, 0, 7], [0, 0, 2.0, 1], [0, 0, 0, 1]]),
        np.array([[0, 0, -1.5, 5], [0.6, 0, 0, 7], [0, -1.0, 0, 1], [0, 0, 0, 1]]),
        OBLIQUE,
    ],
)
@pytest.mark.parametrize("slabs", [1, 3, 100])
@pytest.mark.parametrize("box", [None, (slice(3, 20), slice(0, 22), slice(5, 16))], ids=["whole", "cropped"])
def test_labels_are_those_of_invertd(affine, slabs, box):
    chain, data = preprocessed((23, 31, 17), affine, box=box)
    logits = logits_for(data["image"])
    logits[4:] = logits[4:].sigmoid()
    grid = SourceGrid.of(data["image"])
    bounds = np.unique(np.linspace(0, logits.shape[1], slabs + 1).astype(int))
    grid.fill(Slab(start, logits[:4, start:stop], logits[4:, start:stop]) for start, stop in pairwise(bounds))
    inverted = Invertd("pred", chain, "image", nearest_interp=False)(
        {**data, "pred": MetaTensor(logits, meta=data["image"].meta)}
    )["pred"]
    assert grid.labels.shape == inverted.shape[1:] == (23, 31, 17)
    assert (grid.labels == inverted[:4].argmax(0)).float().mean() >= 0.9999
    torch.testing.assert_close(grid.uncertainty, inverted[4].as_tensor().float(), atol=1e-4, rtol=1e-4)
    assert list(grid.sums) == ["entropy", "disagreement"]
    for values, sums in zip(inverted[4:], grid.sums.values(), strict=True):
        for label, total in sums.items():
            assert total == pytest.approx(float(values[inverted[:4].argmax(0) == label].sum()), rel=1e-3)


@pytest.mark.parametrize(
    "affine",
    [np.diag([-0.8, 1.3, 2.1, 1.0]), np.array([[0, 0, -1.5, 5], [0.6, 0, 0, 7], [0, -1.0, 0, 1], [0, 0, 0, 1]])],
)
@pytest.mark.parametrize("box", [None, (slice(3, 20), slice(0, 22), slice(5, 16))], ids=["whole", "cropped"])
def test_where_only_the_background_can_be_need_not_be_looked_at(affine, box):
    _, data = preprocessed((23, 31, 17), affine, box=box)
    given = logits_for(data["image"])
    part = (slice(4, 9), slice(3, 11), slice(5, 8))
    logits = torch.full_like(given, -10.0)
    logits[0], logits[4:] = 0, 0
    logits[(slice(None), *part)] = given[(slice(None), *part)]
    whole, cut = (
        SourceGrid.of(data["image"]).fill(
            [
                Slab(start, logits[:4, start:stop], logits[4:, start:stop], within=within)
                for start, stop in pairwise((0, 6, logits.shape[1]))
            ]
        )
        for within in (None, part[1:])
    )
    assert whole.labels.any() and torch.equal(whole.labels, cut.labels)
    assert torch.equal(whole.uncertainty, cut.uncertainty)
    for sums, others in zip(whole.sums.values(), cut.sums.values(), strict=True):
        assert dict(sums) == pytest.approx(dict(others))


def test_other_preprocessing_is_undone_by_monai():
    """A resize and a mirroring are no business of `SourceGrid`; the transform falls back to `Invertd`."""
    for extra in (Resized("image", (20, 20, 20)), Flipd("image", 0)):
        chain, data = preprocessed((23, 31, 17), np.diag([0.8, 1.3, 2.1, 1.0]), extra)
        assert SourceGrid.of(data["image"]) is None
        logits = logits_for(data["image"])
        invert = InvertLabelsd("pred", chain, "image", uncertainty=True)
        pred = {"pred": MetaTensor(logits, meta=data["image"].meta)}
        expected = Invertd("pred", chain, "image", nearest_interp=False)({**data, **pred})["pred"]
        result = invert({**data, **pred})
        assert torch.equal(result["pred"].as_tensor(), expected[:4].argmax(0, keepdim=True).as_tensor().byte())
        assert result["pred_uncertainty"].shape == (1, 23, 31, 17)
        parts = invert.from_slabs(data, [Slab(0, logits[:4, :5]), Slab(5, logits[:4, 5:])])
        assert "pred_uncertainty" not in parts and torch.equal(parts["pred"].as_tensor(), result["pred"].as_tensor())
        for values, means in zip(expected[4:], result["pred_measures"].values(), strict=True):
            labels = result["pred"].unique().tolist()
            assert means == pytest.approx({label: float(values[result["pred"][0] == label].mean()) for label in labels})


def test_slabs_without_maps_after_slabs_with_maps_are_no_volume():
    """Were they taken, a map of uncertainty would be zero where nobody looked."""
    _, data = preprocessed((9, 8, 7), np.eye(4))
    logits = logits_for(data["image"])
    with pytest.raises(ValueError, match="shorter"):
        SourceGrid.of(data["image"]).fill([Slab(0, logits[:4, :5], logits[4:, :5]), Slab(5, logits[:4, 5:])])
