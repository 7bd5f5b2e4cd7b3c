"""A listener that receives by C-STORE, as a process that others kill.

python -m hostile.listening ARCHIVE_URL JOURNAL AET PORT
"""

import signal
import sys
from contextlib import closing
from pathlib import Path

from helpers.listener_run import MR, threshold

from unetpp_monai.cli.listen import start_logging
from unetpp_monai.pacs import Journal, Listener, Receiver, Schedule, SeriesQueue, connect


def main(archive: str, path: str, aet: str, port: str) -> None:
    """Listen until killed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the command line does
    start_logging(verbose=False)
    journal = Path(path)
    spool = journal.with_suffix(".spool")
    receiver = Receiver(spool, quiet_seconds=10.0, min_free_bytes=0, max_queue=1000)
    schedule = Schedule(attempts=10, first_seconds=0.1)
    with closing(Journal(journal, exclusive=True)) as memory, receiver.listening(aet, ("127.0.0.1", int(port))):
        listener = Listener(
            receiver,
            SeriesQueue(memory, MR, 1000),
            processor=threshold,
            store=connect(archive),
            spool=spool,
            schedule=schedule,
        )
        listener.run(poll_seconds=0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
