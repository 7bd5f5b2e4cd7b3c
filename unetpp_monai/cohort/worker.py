"""Worker process: runs a loop, receives cases through a pipe, and ends with the process that started it.

`python -m unetpp_monai.cohort.worker PIPE LIFELINE`, two file descriptors; see `local`.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from ..errors import UnetppError
from ..faults import STOP
from .ledger import Ledger
from .loop import Loop
from .messages import Broken, Ready, Start

TERMINATED = 143  # exit code of a process that SIGTERM ended


def serve(connection: Connection) -> None:
    """Load the model, and segment cases until the pipe is closed."""
    try:
        start: Start = connection.recv()
        segments = start.builds()
        connection.send(Ready())
        with Loop(segments, start.work, Ledger(start.output, keyed=start.keyed)) as loop:
            while True:
                connection.send(loop(connection.recv()))
    except (EOFError, BrokenPipeError):  # no more cases, or the launcher has ended
        return
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - the driver reports it in one line
        option = error.option if isinstance(error, UnetppError) else None
        message = str(error) if isinstance(error, UnetppError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):
            connection.send(Broken(" ".join(message.split()), option))


def main() -> None:
    """Run as the process of a worker."""
    pipe, lifeline = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C, and ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # unwinds, which removes claims and temporary files
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        serve(Connection(pipe))
    except SystemExit:
        os._exit(TERMINATED)  # threads of a runtime may still call Python, which aborts an ordinary shutdown


def _end_with(lifeline: int) -> None:
    """End this process when the other end of the pipe is closed, even during a case."""
    os.read(lifeline, 1)
    os._exit(TERMINATED)


if __name__ == "__main__":
    main()
