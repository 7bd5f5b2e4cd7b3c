"""A listener with a processor that thresholds; run as a script it is the process that tests kill.

python tests/helpers/listener_run.py ORTHANC_URL JOURNAL [MOMENT]
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from helpers.waiting import wait_for
from unetpp_monai.cli.listen import start_logging
from unetpp_monai.pacs import Journal, Listener, OrthancFeed, Rule, Schedule, SeriesQueue

MOMENTS = ("fetched", "segmented", "storing", "stored")  # at which `MOMENT` kills the process


def threshold(series_folder, output, *, rule):
    """Write a SEG of what is brighter than the mean, with highdicom alone."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    sources = sorted(map(pydicom.dcmread, series_folder.glob("*.dcm")), key=lambda source: source.InstanceNumber)
    pixels = np.stack([source.pixel_array for source in sources])
    segment = hd.seg.SegmentDescription(
        1,
        "bright",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence("threshold", codes.DCM.ArtificialIntelligence, "1"),
    )
    seg = hd.seg.Segmentation(
        sources,
        (pixels > pixels.mean()).astype(np.uint8),
        hd.seg.SegmentationTypeValues.BINARY,
        [segment],
        hd.UID(),
        300,
        hd.UID(),
        1,
        manufacturer="test",
        manufacturer_model_name="threshold",
        software_versions="1",
        device_serial_number="1",
    )
    (output / "notes.json").write_text("{}")  # not DICOM, not to be stored
    path = output / "result.dcm"
    seg.save_as(path)
    return [path]


MR = (Rule("MR"),)


def make_listener(server, journal, *, processor=threshold, rules=MR, everything=True, store=None, **options):
    """A listener at a server of `orthanc.py`; options: `max_queue`, `attempts`, `first_seconds`."""
    feed = OrthancFeed(server.url, everything=everything)
    return Listener(
        feed,
        SeriesQueue(journal, tuple(rules), options.get("max_queue", 100)),
        processor=processor,
        store=store or feed.archive,
        spool=journal.path.with_suffix(".spool"),
        schedule=Schedule(options.get("attempts", 3), options.get("first_seconds", 0.0)),
    )


def look_until(listener, ready):
    """Look at the source until `ready()` holds."""

    def look():
        listener.source.look(listener.queue)
        return ready()

    wait_for(look, "what the archive tells")


@dataclass
class Server:
    """As much of `orthanc.Orthanc` as a listener needs."""

    url: str


def main(url, path, moment=None):
    """Listen until killed: by others, or by ourselves at a moment."""

    def die(now):
        if now == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def processor(series_folder, output, *, rule):
        die("fetched")
        Path(path).with_suffix(".busy").touch()
        if moment == "wait":
            signal.pause()  # until told to stop
        results = threshold(series_folder, output, rule=rule)
        die("segmented")
        return results

    class Store:
        def push(self, files):
            die("storing")
            pushed = listener.source.archive.push(files)
            die("stored")
            return pushed

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the command line does
    start_logging(verbose=False)
    journal = Journal(Path(path), exclusive=True)
    listener = make_listener(Server(url), journal, processor=processor, store=Store(), first_seconds=0.1, attempts=10)
    listener.run(poll_seconds=0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
