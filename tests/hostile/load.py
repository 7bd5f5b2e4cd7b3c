"""`make load`: a listener at a real Orthanc and among real DICOM peers, killed, with poison among the studies.

Every series that a rule accepts is stored exactly once; nothing stops the service.
"""

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pydicom
from helpers import HELPERS
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.orthanc import Orthanc, free_port, orthanc

from hostile.poison import make_poison
from hostile.report import Fault, show
from hostile.service import Service
from unetpp_monai.pacs import Journal

STUDIES, KILLS, PEERS, IDLE, OWN_ENDS = 50, 10, 4, 100, 40
POISON_SHARE = 0.4  # poisoned series for each sound one
UNWANTED = 5  # every so manieth study is a CT, which no rule accepts
AET = "SEGMENTER"
SHAPE = (12, 10, 4)
STABLE_SECONDS = 3  # long enough that several series are not yet stable when Orthanc is restarted
UNFINISHED = (b"", b"\x01", b"\x01\0\0\0\0\xc8\0\x01", b"\x01\0\xff\xff\xff\xff" + bytes(100))  # of a request
QUIET = 60.0  # seconds without anything new, after which nothing more is expected


@dataclass
class Load:
    """The studies of one course, and what was found wrong."""

    folder: Path
    rng: Random
    kills: int
    own_ends: int  # of the service's own accord, after which it stays down
    sound: dict[str, list[Path]] = field(default_factory=dict)  # study UID of what a rule accepts -> files
    unwanted: dict[str, list[Path]] = field(default_factory=dict)  # of what none does
    poison: dict[str, Path] = field(default_factory=dict)  # series UID -> file
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def parcels(self) -> list[list[Path]]:
        """Files of each series, in an order of chance."""
        parcels = [*self.sound.values(), *self.unwanted.values(), *([path] for path in self.poison.values())]
        self.rng.shuffle(parcels)
        return parcels


def make_load(folder: Path, options: argparse.Namespace) -> Load:
    """Write the studies."""
    load = Load(folder, Random(options.seed), options.kills, options.own_ends)
    folder.mkdir()
    for number in range(options.studies):
        unwanted = number % UNWANTED == UNWANTED - 1
        header = make_series(folder / f"study_{number}", axial_affine(), SHAPE, modality="CT" if unwanted else "MR")[0]
        files = sorted((folder / f"study_{number}").iterdir())
        (load.unwanted if unwanted else load.sound)[str(header.StudyInstanceUID)] = files
    if not options.no_poison:
        load.poison = make_poison(folder / "poison", int(options.studies * POISON_SHARE), options.seed)
    return load


def drive(load: Load, archive: Orthanc, service: Service, send: Callable[[list[Path]], None], *, restart_at_once: bool):
    """Send everything, kill the listener and restart the archive in between, and wait for the results."""
    parcels = load.parcels()
    middle = len(parcels) // 2
    marks = {round((number + 1) * len(parcels) / (load.kills + 1)) for number in range(load.kills)}
    for number, files in enumerate(parcels):
        send(files)
        if number == middle:
            if not restart_at_once:
                time.sleep(2)
            archive.kill()  # pull the plug
            archive.start()
            load.counts["archive restarts"] = load.counts.get("archive restarts", 0) + 1
        if number + 1 in marks or (number == middle and load.kills > len(marks)):
            time.sleep(load.rng.uniform(0.5, 4))
            service.kill()
            load.counts["kills"] = load.counts.get("kills", 0) + 1


def results(archive: Orthanc) -> Counter[str]:
    """Study UID -> SEG instances in the archive."""
    found: Counter[str] = Counter()
    for instance in archive.find("Instance", Modality="SEG"):
        study = archive.rest(f"/instances/{instance['ID']}/study")
        found[study["MainDicomTags"]["StudyInstanceUID"]] += 1
    return found


def wait_for_results(load: Load, archive: Orthanc, *, quiet: float) -> None:
    """Wait until every sound study has its result, or nothing new came for a while; judge."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < quiet:
        found = results(archive)
        if found.keys() >= load.sound.keys():
            time.sleep(2)  # for one too many
            break
        if len(found) != before:
            before, since = len(found), time.monotonic()
        time.sleep(0.5)
    found = results(archive)
    lost = [study for study in load.sound if not found[study]]
    load.counts |= {"sound": len(load.sound), "results": sum(found[study] for study in load.sound)}
    load.counts |= {"poisoned": len(load.poison), "unwanted": len(load.unwanted)}
    if lost:
        load.faults.append(Fault("series have no result", f"{len(lost)} of {len(load.sound)}, such as {lost[0]}"))
    if twice := [study for study, count in found.items() if count > 1]:
        load.faults.append(Fault("a series has several results", f"{len(twice)}, such as {twice[0]}"))
    if wrong := [study for study in load.unwanted if found[study]]:
        load.faults.append(Fault("a series that no rule accepts has a result", wrong[0]))


def judge_journal(load: Load, path: Path) -> None:
    """Nothing runs for ever, and the spool holds nothing of what is done."""
    with closing(Journal.existing(path)) as journal:
        counts = {state: count for state, count in journal.counts().items() if count}
        kept = {str(job.id) for job in journal.jobs("queued", "running", "failed", "dead")} | {"incoming"}
    load.counts |= {f"jobs {state}": count for state, count in counts.items()}
    left = [folder.name for folder in path.with_suffix(".spool").iterdir() if folder.name not in kept]
    if left:
        load.faults.append(Fault("the spool keeps what is done", f"{left[:5]}"))


def drive_orthanc(load: Load, *, quiet: float) -> None:
    """The listener follows the change feed of an Orthanc that everybody sends to."""
    path = load.folder / "journal.sqlite"
    settings = {"StableAge": STABLE_SECONDS}
    with orthanc(load.folder / "orthanc", settings=settings) as archive:
        command = [str(HELPERS / "listener_run.py"), archive.url, str(path)]
        with serving(command, load, path) as service:

            def send(files: list[Path]) -> None:
                for file in files:
                    try:
                        archive.upload([file])
                    except OSError:  # Orthanc refuses some poison
                        load.counts["refused by the archive"] = load.counts.get("refused by the archive", 0) + 1

            drive(load, archive, service, send, restart_at_once=True)
            wait_for_results(load, archive, quiet=quiet)
        judge_journal(load, path)


def drive_dimse(load: Load, *, quiet: float) -> None:
    """Several peers send to the listener at once, each again and again until all it has is taken."""
    path, port = load.folder / "journal.sqlite", free_port()
    with orthanc(load.folder / "orthanc") as archive:
        command = ["-m", "hostile.listening", archive.dicomweb_url, str(path), AET, str(port)]
        with serving(command, load, path) as service:
            peers: list[threading.Thread] = []
            gate = threading.Semaphore(PEERS)
            poison = set(load.poison.values())

            def deliver(files: list[Path]) -> None:
                with gate:
                    if not store(files, port, patience=quiet, once=files[0] in poison):
                        load.counts["gave up sending"] = load.counts.get("gave up sending", 0) + 1

            def send(files: list[Path]) -> None:
                peers.append(threading.Thread(target=deliver, args=(files,)))
                peers[-1].start()
                time.sleep(0.1)

            drive(load, archive, service, send, restart_at_once=False)
            for peer in peers:
                peer.join()
            wait_for_results(load, archive, quiet=quiet)
            hold_connections(load, port, quiet=quiet)
        judge_journal(load, path)


def store(files: list[Path], port: int, *, patience: float, once: bool = False) -> bool:
    """Send files by C-STORE as a modality does: again until each was taken; poison only until it was answered."""
    left, until = list(files), time.monotonic() + patience
    while left and time.monotonic() < until:
        left = _send(left, port, once=once)
        if left:
            time.sleep(0.5)
    return not left


def _send(files: list[Path], port: int, *, once: bool) -> list[Path]:
    """Send files over one association; return those that must be sent again."""
    from pynetdicom import AE

    entity, left = AE("MODALITY"), list(files)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
    datasets = {path: pydicom.dcmread(path) for path in files}
    metas = [dataset.file_meta for dataset in datasets.values()]
    for kind, syntax in {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}:
        entity.add_requested_context(kind, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=AET)
    if not association.is_established:
        return left
    for path, dataset in datasets.items():
        try:
            status = association.send_c_store(dataset).get("Status")
        except (RuntimeError, ValueError, AttributeError):  # the connection went, or this peer cannot send it
            status = None
        if once or status == 0:
            left.remove(path)
    if association.is_established:
        association.release()
    return left


def hold_connections(load: Load, port: int, *, quiet: float) -> None:
    """Others hold connections on which a request for an association never comes; a modality must still get through."""
    held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(IDLE)]
    for number, connection in enumerate(held):
        connection.sendall(UNFINISHED[number % len(UNFINISHED)])
    time.sleep(0.5)
    make_series(load.folder / "late", axial_affine(), SHAPE)
    if not store(sorted((load.folder / "late").iterdir()), port, patience=quiet):
        load.faults.append(Fault("idle connections keep everybody out", f"{IDLE} for {quiet:g} s"))
    for connection in held:
        connection.close()
    load.counts["idle connections"] = IDLE


@contextmanager
def serving(command: list[str], load: Load, path: Path):
    """Run the listener while the block runs, and take over what was wrong with it."""
    log, spool = path.with_suffix(".log"), path.with_suffix(".spool")
    service = Service(command, log, poison=set(load.poison), spool=spool, own_ends=load.own_ends)
    try:
        yield service
    finally:
        service.stop()
        load.faults += service.faults
        load.counts["own ends"] = service.own_ends


COURSES = {"orthanc": drive_orthanc, "dimse": drive_dimse}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if there is any fault."""
    parser = argparse.ArgumentParser(prog="hostile.load", description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help=f"of each course ({STUDIES})")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"({KILLS})")
    parser.add_argument("--courses", default=",".join(COURSES), help="comma-separated")
    parser.add_argument("--no-poison", action="store_true", help="sound studies only")
    parser.add_argument(
        "--quiet", type=float, default=QUIET, help=f"seconds to wait for what does not come ({QUIET:g})"
    )
    parser.add_argument("--own-ends", type=int, default=OWN_ENDS, help=f"until it is left alone ({OWN_ENDS})")
    parser.add_argument("--seed", type=int, default=0, help="of order and moments (0)")
    parser.add_argument("--json", type=Path, help="write the faults here")
    options = parser.parse_args(arguments)
    counts, faults = {}, []
    for course in options.courses.split(","):
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hostile_") as folder:
            load = make_load(Path(folder) / course, options)
            COURSES[course](load, quiet=options.quiet)
        counts[course] = {**load.counts, "seconds": round(time.monotonic() - start)}
        faults += [Fault(f"{course}: {fault.kind}", fault.detail) for fault in load.faults]
    if options.json:
        options.json.write_text(json.dumps([[fault.kind, fault.detail] for fault in faults]))
    return show("load", counts, faults)


if __name__ == "__main__":
    sys.exit(main())
