"""Where images and labels are: a folder, or a DICOMweb server with a folder for what was fetched.

What annotators submit is checked and brought to the image's grid and the bundle's values before it is kept.
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
from .submitted_labels import as_kept, read_submitted

ORIGIN = "seg"  # key of a label's info: UID of the SEG series that holds it
UNREADABLE_SECONDS = 600  # how long a series that could not be read is not fetched again
Bundles = Callable[[], Sequence[Sequence[Label]]]  # labels of each bundle that is served now


class LocalStudies(Store):
    """A folder of image files.

    Args:
        folder: image files, and `labels/` below.
        bundles: to tell what submitted values mean.
        extensions: as `Store` takes them.
        channels: as `Store` takes them.
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
        """What to read for a path of `get_image_uri`."""
        return image

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label map.

        Args:
            image_id: of the image.
            label_filename: what a client sent.
            label_tag: "final" or "original".
            label_info: with `label_info`, what the values mean.

        Raises:
            ImageNotFoundException: no such image.
            InputError: unreadable, beside the image, or values that nothing explains.
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
        if label.name.endswith(".bin"):  # OHIF: bare voxels in the order of the image
            with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
                path = Path(folder) / "label.nii.gz"
                write_nifti(_bare(label, image), path)
                return read_submitted(path, image, info.get("label_info") or [], self.bundles())
        return read_submitted(label, image, info.get("label_info") or [], self.bundles())

    def _deliver(self, image_id: str, labels: Volume, structures: Sequence[Label], folder: Path) -> dict[str, str]:
        """Send a final label to where the image came from; return what to note of it."""
        return {}


class DicomwebStudies(LocalStudies):
    """The series of a DICOMweb server; image ids are Series Instance UIDs.

    A fetched series is kept as `<UID>/` and, for clients, as `<UID>.nii.gz` on the same grid. Final labels go back as
    DICOM SEG. A series counts as labelled if a SEG refers to it that is not only an algorithm's.

    Args:
        archive: the server.
        folder: for what was fetched.
        bundles: to tell what submitted values mean.
        modalities: of the series to show, such as "MR" or "CT, MR"; none: any.
    """

    def __init__(self, archive: Dicomweb, folder: Path, bundles: Bundles, modalities: Sequence[str]) -> None:
        named = sorted({one.strip() for several in modalities for one in several.split(",")})
        self.archive = archive
        self.modalities: list[str | None] = [*named] or [None]
        self.segs = FinalSegs(archive)
        self._unreadable: dict[str, tuple[float, str]] = {}  # UID of a series -> (until when, why)
        super().__init__(folder, bundles, extensions=("*.nii.gz",))

    def name(self) -> str:
        """Address of the server."""
        return self.archive.url

    def source(self, image: Path) -> Path:
        """The DICOM series of a fetched image."""
        folder = image.with_name(image.name.removesuffix(".nii.gz"))
        return folder if folder.parent == Path(self._datastore_path) and folder.is_dir() else image

    def list_images(self) -> list[str]:
        """Series that can be annotated."""
        return sorted({ref.series for modality in self.modalities for ref in find_series(self.archive, modality)})

    def has_image(self, image_id: str) -> bool:
        """Whether it may be a series: the archive is asked for it when it is needed."""
        return UID.fullmatch(image_id) is not None

    def has_label(self, image_id: str, tag: str) -> bool:
        """Whether it may be a label of a series, as `has_image`."""
        return self.has_image(image_id)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Series with a final label."""
        return sorted(set(self.list_images()) & set(self.segs.newest()))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Series without one."""
        return sorted(set(self.list_images()) - set(self.segs.newest()))

    def get_image_uri(self, image_id: str) -> str:
        """Path of a series as NIfTI, fetched if it is not here yet; empty if there is none.

        Raises:
            InputError: it cannot be read, or could not be a few minutes ago.
            PacsError: the archive fails, or sends less than it lists.
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
        """Note what is known of an image, beside what other processes noted."""
        self._init_from_datastore_file()
        super().update_image_info(image_id, info)

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """Path of a label; a final one is fetched if it is not here yet, or a newer one is in the archive."""
        image = image_id or label_id
        if label_tag == DefaultLabelTag.FINAL:
            self._take_label(image, self.segs.newest().get(image))
        return str(super().get_label_uri(image, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Image and label of every series with a final label."""
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
        """Fetch the label that a SEG series holds, if there is one, unless it is here."""
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
            labels, structures = as_kept(labels, structures, grid, self.bundles())
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
            raise OutputError(f"{self.archive.url} must take the label, got {next(iter(pushed.failed.values()))}")
        self._init_from_datastore_file()  # what other processes noted meanwhile stays
        return {ORIGIN: str(seg.dataset.SeriesInstanceUID)}


def _bare(path: Path, image: Volume) -> Volume:
    """Label map of bare bytes, the first axis fastest, in the image's order.

    Raises:
        InputError: more or fewer than the image has voxels.
    """
    voxels = np.fromfile(path, dtype=np.uint8)
    if voxels.size != int(np.prod(image.shape)):
        raise InputError(f"a bare label map must have a byte per voxel, got {voxels.size} for {image.shape}")
    return Volume(voxels.reshape((1, *image.shape), order="F"), image.affine)


def _check_picture(label: Path, image: Path) -> None:
    """Check that a label map of a picture can be read, and has its pixels.

    Raises:
        InputError: not so.
    """
    found, wanted = read_volume(label, labels=True), read_volume(image)
    if found.shape != wanted.shape:
        raise InputError(f"a label map must have the pixels of its image, {wanted.shape[:2]}, got {found.shape[:2]}")


def image_path(datastore: Datastore, image: str) -> Path:
    """Path of an image of any datastore, downloaded if it is not here yet.

    Raises:
        InputError: there is none, or this one cannot be fetched or read.
        UnavailableError: the archive cannot be reached, which says nothing of the image.
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
