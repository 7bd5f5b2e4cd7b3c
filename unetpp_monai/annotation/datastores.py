"""Datastores of images and labels: a folder, or a DICOMweb server with a folder for fetched series.

Submitted labels are checked and converted to the image's grid and the bundle's values before they are stored.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException

from ..dicom.seg import read_dicom_seg, write_dicom_seg
from ..dicom.series import read_dicom_series
from ..errors import InputError, OutputError, PacsError, UnavailableError
from ..files import TEMPORARY
from ..io import is_picture, read_volume, write_nifti
from ..io.nifti import is_nifti
from ..labels import Label
from ..pacs import Query, SeriesRef
from ..pacs.archive import UID
from ..pacs.dicomweb import Dicomweb
from ..pacs.transfer import pull_series
from ..provenance import Algorithm
from ..volume import Volume
from .final_segs import FinalSegs, find_series
from .store import Store
from .submitted_labels import read_submitted, to_bundle_values

ORIGIN = "seg"  # key of a label's info: UID of its SEG series
UNREADABLE_SECONDS = 600  # until an unreadable series is fetched again
Bundles = Callable[[], Sequence[Sequence[Label]]]  # labels of each served bundle


class LocalStudies(Store):
    """A folder of image files.

    Args:
        folder: image files, and `labels/` below.
        bundles: for the meaning of submitted values.
        extensions: as for `Store`.
        channels: as for `Store`.
    """

    def __init__(
        self,
        folder: Path,
        bundles: Bundles,
        *,
        extensions: Sequence[str] = ("*.nii.gz", "*.nii"),
        channels: Sequence[Sequence[str]] = (),
    ) -> None:
        self.bundles = bundles
        super().__init__(folder, extensions, channels=channels)

    def source(self, image: Path) -> Path:
        """Return the source to read for a path of `get_image_uri`."""
        return image

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label map.

        Args:
            image_id: of the image.
            label_filename: file sent by a client.
            label_tag: "final" or "original".
            label_info: with `label_info`, the meaning of values.

        Raises:
            ImageNotFoundException: no such image.
            InputError: unreadable, outside the image, or values of unknown meaning.
        """
        uri = self.get_image_uri(image_id)
        if not uri:
            raise ImageNotFoundException(f"image must be one of the datastore's, got {image_id!r}")
        if is_picture(Path(uri)):
            _check_picture(Path(label_filename), Path(uri))
            return super().save_label(image_id, label_filename, label_tag, label_info)
        with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
            path, label_info = Path(folder) / "label.nii.gz", dict(label_info or {})
            volume, structures = self._submitted(uri, Path(label_filename), label_info)
            write_nifti(volume, path, like=Path(uri) if is_nifti(Path(uri)) else None)
            label_info["label_info"] = [{"name": label.name, "idx": label.index} for label in structures]
            if label_tag == DefaultLabelTag.FINAL:
                label_info |= self._deliver(image_id, volume, structures, Path(folder))
            return super().save_label(image_id, str(path), label_tag, label_info)

    def _submitted(self, uri: str, label: Path, info: Mapping[str, Any]) -> tuple[Volume, tuple[Label, ...]]:
        image = read_volume(uri)
        if label.name.endswith(".bin"):  # OHIF: raw voxels in the order of the image
            with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
                path = Path(folder) / "label.nii.gz"
                write_nifti(_bare(label, image), path)
                return read_submitted(path, image, info.get("label_info") or [], self.bundles())
        return read_submitted(label, image, info.get("label_info") or [], self.bundles())

    def _deliver(self, image_id: str, labels: Volume, structures: Sequence[Label], folder: Path) -> dict[str, str]:
        """Send a final label to the image's origin; return info to store."""
        return {}


class DicomwebStudies(LocalStudies):
    """The series of a DICOMweb server; image ids are Series Instance UIDs.

    A fetched series is stored as `<UID>/` and, for clients, as `<UID>.nii.gz` on the same grid. Final labels are sent
    back as DICOM SEG. A series counts as labelled if a SEG not made by an algorithm alone refers to it.

    Args:
        archive: the server.
        folder: for fetched series.
        bundles: for the meaning of submitted values.
        modalities: of the series to list, such as "MR" or "CT, MR"; empty: any.
    """

    def __init__(self, archive: Dicomweb, folder: Path, bundles: Bundles, modalities: Sequence[str]) -> None:
        named = sorted({one.strip() for several in modalities for one in several.split(",")})
        self.archive = archive
        self.modalities: list[str | None] = [*named] or [None]
        self.segs = FinalSegs(archive)
        self._unreadable: dict[str, tuple[float, str]] = {}  # UID of a series -> (until when, why)
        super().__init__(folder, bundles, extensions=("*.nii.gz",))

    def name(self) -> str:
        """Return the address of the server."""
        return self.archive.url

    def source(self, image: Path) -> Path:
        """Return the DICOM series of a fetched image."""
        folder = image.with_name(image.name.removesuffix(".nii.gz"))
        return folder if folder.parent == Path(self._datastore_path) and folder.is_dir() else image

    def list_images(self) -> list[str]:
        """List the series that can be annotated."""
        return sorted({ref.series for modality in self.modalities for ref in find_series(self.archive, modality)})

    def has_image(self, image_id: str) -> bool:
        """Tell whether an id may be a series; the archive is queried only when it is needed."""
        return UID.fullmatch(image_id) is not None

    def has_label(self, image_id: str, tag: str) -> bool:
        """Tell whether an id may be a label of a series, as `has_image`."""
        return self.has_image(image_id)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """List the series with a final label."""
        return sorted(set(self.list_images()) & set(self.segs.newest()))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """List the series without a final label."""
        return sorted(set(self.list_images()) - set(self.segs.newest()))

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of a series as NIfTI, fetched if needed; empty if missing.

        Raises:
            InputError: it cannot be read, or could not a few minutes ago.
            PacsError: the archive fails, or sends fewer instances than listed.
        """
        path = Path(self._datastore_path) / f"{image_id}.nii.gz"
        with FileLock(Path(self._datastore_path) / ".fetching"):
            self._init_from_datastore_file()  # another process may have fetched it, and be reading it
            if image_id not in self._datastore.objects or not path.exists():
                until, why = self._unreadable.get(image_id, (0.0, ""))
                if time.time() < until:
                    raise InputError(why)
                ref = self._ref(image_id)
                if ref is None:
                    return ""
                try:
                    self._fetch(ref)
                except InputError as error:
                    self._unreadable[image_id] = (time.time() + UNREADABLE_SECONDS, str(error))
                    raise
        return str(path)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Update the info of an image, keeping that of other processes."""
        self._init_from_datastore_file()
        super().update_image_info(image_id, info)

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """Return the path of a label; fetch a final one if it is missing or outdated."""
        image = image_id or label_id
        if label_tag == DefaultLabelTag.FINAL:
            self._take_label(image, self.segs.newest().get(image))
        return str(super().get_label_uri(image, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """List image and label of every series with a final label."""
        segs = self.segs.newest()
        for image in set(super().get_labeled_images()) - set(segs):
            self.remove_label(image, DefaultLabelTag.FINAL)
            self.refresh()
        for image in sorted(set(self.list_images()) & set(segs)):
            self.get_image_uri(image)
            self._take_label(image, segs[image])
        return list(super().datalist(full_path))

    def _ref(self, series: str) -> SeriesRef | None:
        found = self.archive.find(Query(series=series)) if UID.fullmatch(series) else []
        return found[0] if found else None

    def _fetch(self, ref: SeriesRef) -> None:
        root = Path(self._datastore_path)
        with tempfile.TemporaryDirectory(dir=root, prefix=TEMPORARY) as folder:
            series = Path(folder) / ref.series
            pull_series(self.archive, ref, series)
            image = read_dicom_series(series)
            path = Path(folder) / f"{ref.series}.nii.gz"
            write_nifti(image.volume, path)
            shutil.rmtree(root / ref.series, ignore_errors=True)
            series.replace(root / ref.series)
            info = {
                "Modality": str(image.sources[0].get("Modality", "")),
                "SeriesInstanceUID": ref.series,
                "StudyInstanceUID": ref.study,
            }
            self._init_from_datastore_file()  # what other processes noted meanwhile stays
            self.add_image(ref.series, str(path), info, replace=True)

    def _take_label(self, image: str, seg: str | None) -> None:
        """Fetch the label of a SEG series, if any, unless it is here."""
        if seg is not None and self.get_label_info(image, DefaultLabelTag.FINAL).get(ORIGIN) != seg:
            self._fetch_label(image, seg)

    def _fetch_label(self, image: str, seg: str) -> None:
        grid = read_volume(self.get_image_uri(image))
        ref = self._ref(seg)
        if ref is None:
            return
        with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
            pull_series(self.archive, ref, Path(folder) / seg)
            labels, structures = read_dicom_seg(next((Path(folder) / seg).glob("*.dcm")))
            labels, structures = to_bundle_values(labels, structures, grid, self.bundles())
            path = Path(folder) / "label.nii.gz"
            write_nifti(labels, path, like=Path(self.get_image_uri(image)))
            info = {"label_info": [{"name": label.name, "idx": label.index} for label in structures], ORIGIN: seg}
            Store.save_label(self, image, str(path), DefaultLabelTag.FINAL, info)

    def _deliver(self, image_id: str, labels: Volume, structures: Sequence[Label], folder: Path) -> dict[str, str]:
        series = read_dicom_series(Path(self._datastore_path) / image_id)
        path = folder / "label.dcm"
        algorithm = Algorithm("", "", kind="MANUAL")
        _, seg = write_dicom_seg(labels, path, structures=structures, sources=series.sources, algorithm=algorithm)
        pushed = self.archive.push([path])
        if pushed.failed:
            raise OutputError(f"{self.archive.url} must accept the label, got {next(iter(pushed.failed.values()))}")
        self._init_from_datastore_file()  # what other processes noted meanwhile stays
        return {ORIGIN: str(seg.dataset.SeriesInstanceUID)}


def _bare(path: Path, image: Volume) -> Volume:
    """Read a raw label map, first axis fastest, in the image's order.

    Raises:
        InputError: another number of voxels than the image.
    """
    voxels = np.fromfile(path, dtype=np.uint8)
    if voxels.size != int(np.prod(image.shape)):
        raise InputError(f"a raw label map must have a byte per voxel, got {voxels.size} for {image.shape}")
    return Volume(voxels.reshape((1, *image.shape), order="F"), image.affine)


def _check_picture(label: Path, image: Path) -> None:
    """Check that a label map of a picture is readable and has its size.

    Raises:
        InputError: unreadable or another size.
    """
    found, wanted = read_volume(label, labels=True), read_volume(image)
    if found.shape != wanted.shape:
        raise InputError(f"a label map must have the pixels of its image, {wanted.shape[:2]}, got {found.shape[:2]}")


def image_path(datastore: Datastore, image: str) -> Path:
    """Return the path of an image in any datastore, downloaded if needed.

    Raises:
        InputError: no such image, or it cannot be fetched or read.
        UnavailableError: the archive cannot be reached.
    """
    try:
        uri = datastore.get_image_uri(image)
    except UnavailableError:
        raise
    except PacsError as error:
        raise InputError(str(error)) from error
    if not uri:
        raise InputError("an image must be in the datastore, got one that is gone")
    return Path(uri)
