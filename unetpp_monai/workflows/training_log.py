"""The log of a training: what libraries log and warn of goes into a file, not on the terminal."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

LOG = "log.txt"
FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"

python_warnings = logging.getLogger("py.warnings")
python_warnings.addHandler(logging.NullHandler())  # of processes without a log, so that nothing is printed


class _Log(logging.FileHandler):
    """A log that neither ends a training nor prints if the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the record."""

    def close(self) -> None:
        """Close the file, with what could be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_into(folder: Path) -> Iterator[None]:
    """Write what all libraries log into a file while the block lasts."""
    root = logging.getLogger()
    before = root.level
    handler = _Log(folder / LOG)
    handler.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()


@contextmanager
def log_warnings() -> Iterator[None]:
    """Log Python's warnings, which libraries print on the terminal otherwise, while the block lasts."""
    import monai.bundle  # noqa: F401 - it replaces `showwarning`, too

    def log(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        python_warnings.warning("%s", warnings.formatwarning(message, category, filename, lineno).rstrip())

    before = warnings.showwarning
    warnings.showwarning = log
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def quiet() -> Iterator[Callable[[], None]]:
    """Take from the terminal what MONAI writes on it by itself; give what does so again, for loggers that are new."""
    import monai.bundle  # noqa: F401 - whose loggers are to be quiet

    with ExitStack() as stack:

        def hush() -> None:
            loggers = list(logging.root.manager.loggerDict.values())
            for logger in [one for one in loggers if isinstance(one, logging.Logger)]:
                for handler in [one for one in logger.handlers if type(one) is logging.StreamHandler]:
                    logger.removeHandler(handler)
                    stack.callback(logger.addHandler, handler)
                    stack.callback(setattr, logger, "propagate", logger.propagate)
                    logger.propagate = True

        hush()
        yield hush
