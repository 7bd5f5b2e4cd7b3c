"""One command from nothing to a PACS that segments: `python docs/listener_demo.py`.

Starts Orthanc (Debian: `apt-get install orthanc orthanc-dicomweb`) and `unetpp listen` on loopback, sends a series as a
scanner would, waits for the results in the archive, pulls them into `listener_demo/`, stops everything.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

import unetpp_monai
from unetpp_monai.words import counted

UNETPP = [sys.executable, "-m", "unetpp_monai"]
SAMPLE = Path(unetpp_monai.__file__).parent / "sample" / "mni_hippocampus_right.nii.gz"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
RULES = [
    {"modality": "MR", "description": "right hippocampus", "min_slices": 16, "bundle": "hippocampus"},
    {"modality": "MR", "min_slices": 100, "spacing_mm": {"min": 0.4, "max": 2}},  # whole heads
]
PATIENCE = 600  # seconds, which only a hang reaches


def main() -> None:
    """Run the demo; exit 0 only if a SEG and an SR came back."""
    output = Path("listener_demo")
    orthanc = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(orthanc).exists() or not Path(PLUGIN).exists():
        sys.exit("needs Orthanc with its DICOMweb plugin: apt-get install orthanc orthanc-dicomweb")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, http, dicom = Path(name), free_port(), free_port()
        url, archive = f"http://127.0.0.1:{http}", f"dimse://ORTHANC@127.0.0.1:{dicom}"
        server = running([orthanc, str(write_config(folder, http, dicom))], folder / "orthanc.log")
        wait_for(lambda: listens(http) and listens(dicom), *stack.enter_context(server))
        (folder / "rules.json").write_text(json.dumps(RULES))
        listen = ["listen", "--orthanc", url, "--rules", str(folder / "rules.json"), "--poll", "0.5"]
        log = folder / "listener.log"
        journal = ["--journal", str(folder / "journal.sqlite")]
        listener = stack.enter_context(running([*UNETPP, *listen, *journal], log))
        wait_for(lambda: "feed" in log.read_text(), *listener)
        write_series(folder / "series")
        say(f"send a series: unetpp pacs push {archive} series")
        subprocess.run([*UNETPP, "pacs", "push", archive, str(folder / "series")], check=True)
        wait_for(lambda: {"SEG", "SR"} <= {kind for kind, *_ in series_in(url)}, *listener)
        say(f"\nthe archive now holds, at {url}:")
        for kind, description, instances in sorted(series_in(url)):
            say(f"  {kind:4} {counted(instances, 'instance'):13}  {description}")
        study = pydicom.dcmread(next((folder / "series").iterdir())).StudyInstanceUID
        pull = ["pacs", "pull", f"{url}/dicom-web", "--study", study, "-o", str(output)]
        say("\npull them back: unetpp pacs pull URL/dicom-web --study UID")
        subprocess.run([*UNETPP, *pull], check=True)
        say(f"\nwhat the listener said:\n{log.read_text()}")
        subprocess.run([*UNETPP, "listen", "--status", str(folder / "journal.sqlite")], check=True)


def write_config(folder: Path, http: int, dicom: int) -> Path:
    """Write a configuration of Orthanc: loopback only, series complete after 2 s of silence."""
    config = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [PLUGIN],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StableAge": 2,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    return folder / "orthanc.json"


def write_series(folder: Path) -> None:
    """Write the package's MRI sample as a DICOM series of an invented patient."""
    image = nib.load(SAMPLE)
    voxels = np.asanyarray(image.dataobj).astype(np.uint16)
    affine = np.diag([-1, -1, 1, 1]) @ image.affine  # NIfTI is RAS, DICOM is LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    folder.mkdir()
    for index in range(voxels.shape[2]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Demo", "DEMO", "", "O"
        dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
        dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, index + 1
        dataset.Modality, dataset.SeriesDescription, dataset.Manufacturer = "MR", "T1 right hippocampus", ""
        dataset.ImageOrientationPatient = [float(value) for value in (affine[:3, :2] / spacing[:2]).T.ravel()]
        dataset.ImagePositionPatient = [float(value) for value in affine[:3, 3] + index * affine[:3, 2]]
        dataset.PixelSpacing, dataset.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        dataset.Columns, dataset.Rows = voxels.shape[:2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelData = np.ascontiguousarray(voxels[:, :, index].T).tobytes()
        dataset.save_as(folder / f"{index:03d}.dcm", enforce_file_format=True)


def series_in(url: str) -> list[tuple[str, str, int]]:
    """Modality, description and number of instances of each series of the archive."""
    with urllib.request.urlopen(f"{url}/series?expand") as answer:
        found = json.load(answer)
    tags = [(one["MainDicomTags"], len(one["Instances"])) for one in found]
    return [(tag.get("Modality", ""), tag.get("SeriesDescription", ""), count) for tag, count in tags]


@contextmanager
def running(command: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a program in the background while the block runs; give it and its log."""
    say(f"start {' '.join(command)}")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(30)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a condition holds; if the program ends before, or it takes too long, show its log and exit."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > give_up:
            sys.exit(f"what should come did not come:\n{log.read_text()}")
        time.sleep(0.2)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def say(text: str) -> None:
    """Show progress at once, before what the commands print."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
