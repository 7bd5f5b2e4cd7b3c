"""MONAI Label's web application behind our gate, with our handlers for changes and errors."""

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

UNKNOWN = (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR, MONAILabelError.APP_ERROR)  # for names
ANSWER_SECONDS = 3  # for pending answers when the server stops
END_SECONDS = 10.0  # until the process is ended even if something hangs


def web_app(rules: Rules) -> FastAPI:
    """Return MONAI Label's application with our endpoints first and one-line errors."""
    app: FastAPI = monailabel.app.app
    app.add_exception_handler(UnetppError, _refuse)
    app.add_exception_handler(MONAILabelException, _refuse)
    app.router.routes[:0] = [*data_requests.ROUTES, *task_requests.ROUTES]
    app.user_middleware[:] = [  # instead of MONAI Label's, which allows every page
        Middleware(Gate, rules=rules, knows=data_requests.faults),
        Middleware(CORSMiddleware, allow_origins=sorted(rules.origins), allow_methods=["*"], allow_headers=["*"]),
    ]
    return app


def run(app: FastAPI, host: str, port: int, log_config: str, temporary: Path) -> None:
    """Serve until a signal; then end this process and all its children.

    Args:
        app: what to serve.
        host: address to listen at.
        port: to listen at.
        log_config: of uvicorn.
        temporary: folder removed at the end.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_config=log_config, timeout_graceful_shutdown=ANSWER_SECONDS, ws="none"
    )
    _Server(config, temporary).run()


class _Server(uvicorn.Server):
    """Stops trainings at once and answers within seconds; does not wait for a running segmentation."""

    def __init__(self, config: uvicorn.Config, temporary: Path) -> None:
        super().__init__(config)
        self.temporary = temporary

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to stop."""
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
        end_all()  # a waiting task may have started
        shutil.rmtree(self.temporary, ignore_errors=True)
        logging.shutdown()
        os._exit(0)  # waiting or segmenting threads would keep this process alive


def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answer with the error, and log it."""
    if isinstance(error, MONAILabelException):
        status, message = 404 if error.error in UNKNOWN else 500, error.msg
    elif isinstance(error, TakenError):
        status, message = 409, str(error)
    else:
        status, message = 400 if isinstance(error, InputError) else 500, str(error)
    logger.warning("%s %s: %d", request.method, request.url.path, status)
    return JSONResponse({"detail": " ".join(message.split())}, status)
