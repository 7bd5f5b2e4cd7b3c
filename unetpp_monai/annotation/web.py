"""MONAI Label's web application behind our gate, with our own answers to what changes anything, and to errors."""

import logging
import os
import shutil
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import monailabel.app
import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from ..errors import InputError, UnetppError
from . import data_requests, task_requests
from .background import end_all
from .gate import Gate, Rules
from .store import TakenError

logger = logging.getLogger(__name__)

UNKNOWN = (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR, MONAILabelError.APP_ERROR)  # of names
ANSWER_SECONDS = 3  # that answers may still take once the server was told to stop
END_SECONDS = 10.0  # after which it ends whatever hangs


def web_app(rules: Rules) -> FastAPI:
    """Give MONAI Label's application, changed: our endpoints come first, errors say in one line what is wrong."""
    app: FastAPI = monailabel.app.app
    app.add_exception_handler(UnetppError, _refuse)
    app.add_exception_handler(MONAILabelException, _refuse)
    app.router.routes[:0] = [*data_requests.ROUTES, *task_requests.ROUTES]
    app.user_middleware[:] = [  # instead of MONAI Label's own, by which every page may ask
        Middleware(Gate, rules=rules, knows=data_requests.faults),
        Middleware(CORSMiddleware, allow_origins=sorted(rules.origins), allow_methods=["*"], allow_headers=["*"]),
    ]
    return app


def run(app: FastAPI, host: str, port: int, log_config: str, temporary: Path) -> None:
    """Serve until a signal to stop; then this process ends, and all that it started.

    Args:
        app: what to serve.
        host: address to listen at.
        port: to listen at.
        log_config: of uvicorn.
        temporary: folder that goes with the process.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_config=log_config, timeout_graceful_shutdown=ANSWER_SECONDS, ws="none"
    )
    _Server(config, temporary).run()


class _Server(uvicorn.Server):
    """Ends whole: trainings at once, answers within seconds; a segmentation that runs is not waited for."""

    def __init__(self, config: uvicorn.Config, temporary: Path) -> None:
        super().__init__(config)
        self.temporary = temporary

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        timer = threading.Timer(END_SECONDS, self._end)
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop."""
        end_all()
        await super().shutdown(sockets)
        self._end()

    def _end(self) -> None:
        end_all()  # one that waited may have begun
        shutil.rmtree(self.temporary, ignore_errors=True)
        logging.shutdown()
        os._exit(0)  # threads that wait for a process or segment would keep this one alive


def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Name the error; the log has it too."""
    if isinstance(error, MONAILabelException):
        status, message = 404 if error.error in UNKNOWN else 500, error.msg
    elif isinstance(error, TakenError):
        status, message = 409, str(error)
    else:
        status, message = 400 if isinstance(error, InputError) else 500, str(error)
    logger.warning("%s %s: %d", request.method, request.url.path, status)
    return JSONResponse({"detail": " ".join(message.split())}, status)
