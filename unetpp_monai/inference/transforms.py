"""Transforms that MONAI lacks."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai import transforms
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.utils import MetaKeys
from numpy.typing import NDArray

from ..errors import InputError
from ..label_rules import boundary_pairs
from ..memory import check_memory
from ..pieces import largest_component
from .slab import UNCERTAINTIES, Slab, unpack
from .source_grid import SourceGrid

GRID_BYTES = 24  # memory of resampling per voxel of the new grid,
CHANNEL_BYTES = 36  # and per voxel and channel (measured), bytes


class Spacingd(transforms.Spacingd):
    """MONAI's `Spacingd`, which in 1.6 fails when an entry such as `image_path` is a string, as MONAI Label sends.

    It updates every entry whose key starts with `<key>_` as if it were a dictionary of metadata
    (`monai/transforms/spatial/dictionary.py`); entries that are none are hidden from it here and put back.
    """

    def __call__(self, data: Mapping[Hashable, object], lazy: bool | None = None) -> dict[Hashable, object]:
        """Resample as the parent class.

        Raises:
            InputError: the new grid would not fit into memory, or would be a single voxel.
        """
        keys = tuple(self.keys)
        for key in self.key_iterator(data):
            if isinstance(image := data[key], MetaTensor):
                self._check_grid(image)
        hidden = {
            key: value
            for key, value in data.items()
            if key not in keys and not isinstance(value, dict) and any(str(key).startswith(f"{k}_") for k in keys)
        }
        shown = {key: value for key, value in data.items() if key not in hidden}
        return {**super().__call__(shown, lazy=lazy), **hidden}

    def _check_grid(self, image: MetaTensor) -> None:
        """Check that the new grid is plausible."""
        shape, spacing = tuple(image.shape[1:]), [float(length) for length in image.pixdim]
        aims = self.spacing_transform.pixdim
        aims = [float(aims[min(axis, len(aims) - 1)]) for axis in range(len(shape))]
        grid = [
            max(round(size * length / aim), 1) if aim > 0 else size  # 0 and below: as it is
            for size, length, aim in zip(shape, spacing, aims, strict=True)
        ]
        lengths, sizes = " x ".join(f"{length:.4g}" for length in spacing), " x ".join(map(str, grid))
        what = f"voxels of {lengths} mm become a grid of {sizes}, which"
        way_out = "check the unit of length and the spacing in the image's header"
        if math.prod(grid) == 1 < math.prod(shape):
            raise InputError(f"{what} must be more than one voxel, got {math.prod(shape)} before; {way_out}")
        check_memory(math.prod(grid) * (GRID_BYTES + CHANNEL_BYTES * len(image)), f"{what} would", way_out=way_out)


class NormalizeChannelsd(transforms.MapTransform):
    """Normalise each channel of an image by its own rule.

    Args:
        keys: images `(C, *spatial)`, float32; replaced.
        channels: one rule per channel; empty: `{"kind": "zscore", "mask": "all"}` for every one. Such a rule takes mean
            and deviation of the channel to 0 and 1, with "nonzero" over the voxels that are not 0, and leaves the
            others at 0. `{"kind": "clip", "lower": a, "upper": b, "mean": m, "std": s}` cuts intensities that have a
            unit, such as CT's, to a ... b, and then takes m to 0 and s to 1.
    """

    def __init__(self, keys: KeysCollection, channels: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(keys)
        self.channels = tuple(channels)
        self._over_all = transforms.NormalizeIntensity(channel_wise=True)
        self._over_nonzero = transforms.NormalizeIntensity(nonzero=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise every channel.

        Raises:
            InputError: another number of channels than rules.
        """
        found = dict(data)
        for key in self.key_iterator(data):
            found[key] = self._normalized(data[key])
        return found

    def _normalized(self, image: torch.Tensor) -> torch.Tensor:
        if not self.channels:
            normalized: torch.Tensor = self._over_all(image)
            return normalized
        if len(image) != len(self.channels):
            raise InputError(f"an image must have {len(self.channels)} channels (intensity), got {len(image)}")
        for index, rule in enumerate(self.channels):
            channel = image[index : index + 1]
            if rule["kind"] == "clip":
                channel = (channel.clamp(rule["lower"], rule["upper"]) - rule["mean"]) / rule["std"]
            else:
                channel = (self._over_nonzero if rule["mask"] == "nonzero" else self._over_all)(channel)
            image[index : index + 1] = channel
        return image


class LargestComponentd(transforms.MapTransform):
    """Keep only the largest connected component of some labels, and those that a user marked; diagonals are connected.

    Args:
        keys: labels `(1, *spatial)`, integers; replaced, same shape and dtype, other pieces become background. The
            entry `<key>_marks`, if any, has positions `(N, axes)`, RAS mm, by label index; labels then have an affine.
        labels: indices of the labels, each treated separately.
    """

    def __init__(self, keys: KeysCollection, labels: Sequence[int]) -> None:
        super().__init__(keys)
        self.labels = tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Remove smaller components."""
        found = dict(data)
        for key in self.key_iterator(data):
            found[key] = data[key].clone()
            array = found[key].as_tensor() if isinstance(found[key], MetaTensor) else found[key]
            marks = data.get(f"{key}_marks", {})
            for label in self.labels:
                mask = array[0] == label
                marked = _voxels(marks[label], data[key]) if label in marks else None
                kept = largest_component(mask.cpu().numpy(), marked)
                array[0][mask & ~kept.to(mask.device)] = 0
        return found


def _put(
    data: dict[Hashable, object], key: Hashable, marks: Mapping[int, torch.Tensor] | None
) -> dict[Hashable, object]:
    labels: Any = data[key]
    for label, positions in (marks or {}).items():
        labels.as_tensor()[0][tuple(torch.from_numpy(_voxels(positions, labels)).T)] = label
    return data


def _voxels(positions: torch.Tensor, labels: MetaTensor) -> NDArray[np.int64]:
    """Voxels `(N, axes)` of positions (RAS, mm) in labels `(1, *spatial)`, those outside at the border."""
    shape = np.array(labels.shape[1:])
    to_voxels = np.linalg.inv(to_affine_nd(len(shape), labels.affine.cpu().numpy()))
    voxels = positions.cpu().numpy() @ to_voxels[:-1, :-1].T + to_voxels[:-1, -1]
    return np.asarray(np.clip(np.rint(voxels).astype(np.int64), 0, shape - 1))


class InvertLabelsd(transforms.MapTransform):
    """MONAI's `Invertd` (linear) and argmax in one, plane by plane: see `SourceGrid`.

    Preprocessing that does more than orient and resample along the axes is undone by `Invertd` itself.

    Args:
        keys: logits `(out_channels, *network grid)`; replaced by labels `(1, *source grid)`, uint8.
        transform: the preprocessing.
        orig_keys: key of the preprocessed image.
        uncertainty: the logits are packed with maps, as `DepthInferer` gives them with its argument of this name. Where
            there are maps, add `<key>_uncertainty` `(1, *source grid)`, float32, the entropy, and `<key>_measures`,
            map of `UNCERTAINTIES` -> label index -> mean over its voxels.
    """

    def __init__(
        self, keys: str, transform: transforms.InvertibleTransform, orig_keys: str, *, uncertainty: bool = False
    ) -> None:
        super().__init__(keys)
        self.orig_key, self.uncertainty = orig_keys, uncertainty
        self.invert = transforms.Invertd(keys, transform, orig_keys, nearest_interp=False, to_tensor=True)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Replace whole logits, for MONAI; see `pack`."""
        (key,) = self.keys
        return self.from_slabs(data, [unpack(data[key], maps=self.uncertainty)])  # type: ignore[arg-type]

    def from_slabs(
        self, data: Mapping[Hashable, object], slabs: Iterable[Slab], marks: Mapping[int, torch.Tensor] | None = None
    ) -> dict[Hashable, object]:
        """Add labels, and uncertainty if any, from logits in slabs.

        Args:
            data: with the preprocessed image.
            slabs: on its grid, first to last.
            marks: positions `(N, axes)` of voxels that get another label, RAS mm, by its index; None: no voxel.
        """
        image: MetaTensor = data[self.orig_key]
        (key,) = self.keys
        grid = SourceGrid.of(image)
        if grid is None:
            layers = [torch.cat(rows, 1) for rows in zip(*(slab.layers for slab in slabs), strict=True)]
            return _put(self._inverted(data, key, Slab(0, *layers)), key, marks)
        grid.fill(slabs)
        meta = {**image.meta, MetaKeys.AFFINE: image.meta.get(MetaKeys.ORIGINAL_AFFINE, image.affine)}
        found = {**data, key: MetaTensor(grid.labels[None], meta=meta)}
        if grid.uncertainty is not None:
            counts = torch.bincount(grid.labels.flatten()).tolist()
            found[f"{key}_uncertainty"] = MetaTensor(grid.uncertainty[None], meta=meta)
            found[f"{key}_measures"] = {
                name: {index: sums[index] / count for index, count in enumerate(counts) if count}
                for name, sums in grid.sums.items()
            }
        return _put(found, key, marks)

    def _inverted(self, data: Mapping[Hashable, object], key: Hashable, whole: Slab) -> dict[Hashable, object]:
        """Invert with every label's logits on the source grid."""
        image: MetaTensor = data[self.orig_key]
        logits, *rest = (self.invert({**data, key: MetaTensor(layer, meta=image.meta)})[key] for layer in whole.layers)
        labels = logits.max(0, keepdim=True).indices.to(torch.uint8)
        found: dict[Hashable, object] = {**data, key: labels}
        for maps in rest:
            found[f"{key}_uncertainty"] = maps[:1]
            found[f"{key}_measures"] = {
                name: {int(index): float(values[labels[0] == index].mean()) for index in labels.unique()}
                for name, values in zip(UNCERTAINTIES, maps, strict=True)
            }
        return found


class PlanarLabelBoundaryd(transforms.MapTransform):
    """Let two labels meet in a plane between two slices, where annotators divide a structure so.

    Each pair of labels, such as those of one side, has a plane of its own: the one that changes the fewest voxels. No
    voxel becomes or ceases to be foreground. Slices are those of the image axis that is nearest to the direction.
    What a user marked as one of a pair is on its side of the plane, unless marks contradict each other.

    Args:
        keys: labels `(1, X, Y, Z)`, integers, with an affine in RAS mm; replaced, same shape and dtype. The entry
            `<key>_marks`, if any, has positions `(N, 3)`, RAS mm, by label index.
        labels: index of the label on the side `towards`, and of the other one; or a list of such pairs.
        towards: side of the patient, one of R, L, A, P, S, I; "A" divides at a coronal slice.
    """

    def __init__(self, keys: str, labels: Sequence[int] | Sequence[Sequence[int]], towards: str = "A") -> None:
        super().__init__(keys)
        self.pairs = [(first, second) for first, second in boundary_pairs(labels)]
        self.world_axis = next(axis for axis, sides in enumerate(("RL", "AP", "SI")) if towards in sides)
        self.sign = 1 if towards in "RAS" else -1

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Divide what either label covers."""
        (key,) = self.keys
        labels: MetaTensor = data[key]
        whole = labels.as_tensor()
        marks: Any = data.get(f"{key}_marks", {})
        divided, box = whole.clone(), _foreground(whole)
        if box is not None:
            to_voxels, start = labels.affine.inverse(), torch.tensor([part.start for part in box[1:]])
            marked = {
                index: (positions.to(to_voxels) @ to_voxels[:3, :3].T + to_voxels[:3, 3]).round().long() - start
                for index, positions in marks.items()
            }
            divided[box] = self._divided(whole[box], labels.affine, marked)
        history = labels.applied_operations
        return {**data, key: MetaTensor(divided, meta=labels.meta, applied_operations=history)}

    def _divided(self, labels: torch.Tensor, affine: torch.Tensor, marked: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Divide labels; `marked` are voxels `(N, 3)` by label index."""
        orientation = nib.io_orientation(affine.cpu().numpy())  # row: image axis; its world axis 0 ... 2, and 1 or -1
        axis = orientation[:, 0].tolist().index(float(self.world_axis))
        ascending = orientation[axis, 1] * self.sign > 0
        slices = labels.movedim(
            axis + 1, 0
        )  # a view, turned so that the last slice lies on the side of the first label
        slices = slices if ascending else slices.flip(0)
        divided = slices.clone()
        for ahead, behind in self.pairs:
            first, second = slices == ahead, slices == behind
            votes = (first.int() - second.int()).flatten(1).sum(1)
            for index, sign in ((ahead, 1), (behind, -1)):
                places = marked.get(index, torch.zeros(0, 3, dtype=torch.long))[:, axis].clip(0, len(votes) - 1)
                counts = torch.bincount(places, minlength=len(votes)).to(votes)
                votes = votes + sign * labels.numel() * (counts if ascending else counts.flip(0))
            border = int(torch.nn.functional.pad(votes.cumsum(0), (1, 0)).argmin())  # slices on the other side
            either = first | second
            divided[border:][either[border:]] = ahead
            divided[:border][either[:border]] = behind
        divided = divided if ascending else divided.flip(0)
        return divided.movedim(0, axis + 1).contiguous()


def _foreground(labels: torch.Tensor) -> tuple[slice, ...] | None:
    """The box of all labels > 0 of a map `(1, X, Y, Z)`; None: there are none."""
    inside = labels > 0
    box = []
    for axis in range(labels.dim()):
        places = inside.any(tuple(other for other in range(labels.dim()) if other != axis)).nonzero()
        if not len(places):
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
