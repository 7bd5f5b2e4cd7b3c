"""An image and its position in the patient; independent of file formats."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError, InputError, UnetppError

SAME_LATTICE = 0.02  # voxels between the corners of a grid and of its part, as stored positions are rounded
SAME_GRID_MM = 1e-3  # largest corner distance between equal grids


@dataclass(frozen=True, eq=False)
class Volume:
    """Hold an array together with its geometry.

    Example:
        >>> Volume(np.zeros((1, 4, 5, 6)), np.diag([1.0, 1.0, 2.0, 1.0])).shape
        (4, 5, 6)

    Raises:
        InputError: the array is not `(C, X, Y, Z)` or has no voxels.
        GeometryError: the affine is not 4x4, not finite, or singular.
    """

    array: NDArray[np.generic]  # (C, X, Y, Z), any real dtype; 2-D images have Z = 1
    affine: NDArray[np.float64]  # 4x4, voxel index (0 = centre of the first voxel) -> mm, RAS

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        if self.array.ndim != 4 or 0 in self.array.shape:
            raise InputError(f"a volume must be (C, X, Y, Z) with at least 1 voxel, got shape {self.array.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"affine must be 4x4 and finite, got {affine.tolist()}")
        if min(self.spacing) <= 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * np.prod(self.spacing):
            raise GeometryError(
                f"affine must not be singular, got axes {affine[:3, :3].tolist()}; the file's geometry is broken, "
                "export the image again"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis, order X, Y, Z."""
        x, y, z = self.array.shape[1:]
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Mm per voxel along X, Y, Z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """Anatomical direction each axis points to, such as ("R", "A", "S")."""
        x, y, z = nib.orientations.aff2axcodes(self.affine)
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Millilitres per voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def same_grid(self, other: "Volume") -> bool:
        """Tell whether shapes are equal and corners agree within `SAME_GRID_MM`."""
        return self.shape == other.shape and self.corner_distance(other.affine) <= SAME_GRID_MM

    def corner_distance(self, affine: NDArray[np.float64]) -> float:
        """Return the largest corner distance to another affine, mm."""
        return float(np.linalg.norm(self._shifts(affine), axis=1).max())

    def grid_distance(self, other: "Volume") -> float:
        """Return the largest corner distance along an axis to another grid, voxels; infinite if shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.abs(np.linalg.inv(self.affine[:3, :3]) @ self._shifts(other.affine).T).max())

    def _shifts(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shift of each corner from another affine, mm."""
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (*self.shape, 1)
        return np.asarray((corners @ (self.affine - affine).T)[:, :3])


def placed_on(part: Volume, grid: Volume) -> Volume | None:
    """Return a part of a grid on the whole grid, with zeros elsewhere.

    Args:
        part: `(C, X, Y, Z)`; its axes may run in another order or direction than those of the grid.
        grid: of which only affine and shape are used.

    Returns:
        The same voxels at the same places; None: voxels lie between or outside those of the grid.
    """
    steps = np.rint(np.linalg.inv(grid.affine) @ part.affine)  # index of the part -> index of the grid
    turn, start = steps[:3, :3], steps[:3, 3].astype(int)
    one_each = (np.abs(turn).sum(0) == 1).all() and (np.abs(turn).sum(1) == 1).all()
    if not one_each or part.corner_distance(grid.affine @ steps) > SAME_LATTICE * min(grid.spacing):
        return None
    order = np.abs(turn).argmax(axis=1)  # axis of the grid -> axis of the part
    array = np.transpose(part.array, (0, *(order + 1)))
    flipped = [axis for axis in range(3) if turn[axis, order[axis]] < 0]
    array = np.flip(array, tuple(axis + 1 for axis in flipped))
    start[flipped] -= np.array(array.shape[1:])[flipped] - 1
    end = start + array.shape[1:]
    if (start < 0).any() or (end > grid.shape).any():
        return None
    found = np.zeros((len(array), *grid.shape), array.dtype)
    found[:, *map(slice, start, end)] = array
    return Volume(found, grid.affine)


def label_array(labels: Volume, *, name: object = "", error: type[UnetppError] = InputError) -> NDArray[Any]:
    """Return the `(X, Y, Z)` values of a label map `(1, X, Y, Z)`.

    Args:
        labels: volume of one channel.
        name: its source, such as a path.
        error: raised for several channels.
    """
    if len(labels.array) != 1:
        raise error(
            f"a label map must have 1 channel, got {len(labels.array)}{f' in {name}' if name else ''}; replace the "
            "colours of a picture by label numbers, or take the argmax over one-hot channels"
        )
    array: NDArray[Any] = labels.array[0]
    return array


def check_finite(volume: Volume, name: object) -> None:
    """Check that all voxels are finite.

    Args:
        volume: to check.
        name: for messages, such as its path.

    Raises:
        InputError: NaN or infinite voxels.
    """
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        count = int(volume.array.size - np.isfinite(volume.array).sum())
        raise InputError(f"voxels must be finite, got {count} NaN or infinite ones in {name}; replace them first")
