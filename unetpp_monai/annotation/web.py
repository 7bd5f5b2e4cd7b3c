"""MONAI Label's web application with our own answers to `/infer/` and to errors."""

import json
import logging
from typing import Annotated, Any

import monailabel.app
from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.utils.app import app_instance

from ..errors import InputError, UnetppError

logger = logging.getLogger(__name__)

UNKNOWN = (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR, MONAILabelError.APP_ERROR)  # of names
Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]


def web_app() -> FastAPI:
    """Give MONAI Label's application, changed: our `/infer/` comes first, errors say in one line what is wrong."""
    app: FastAPI = monailabel.app.app
    app.add_exception_handler(UnetppError, _refuse)
    app.add_exception_handler(MONAILabelException, _refuse)
    app.router.routes.insert(0, APIRoute("/infer/{model}", infer, methods=["POST"]))
    return app


def infer(  # noqa: PLR0913  # the protocol's fields
    background_tasks: BackgroundTasks,
    model: str,
    user: Reader,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Answer as MONAI Label does, in a thread, so that other requests are answered meanwhile; SEGs by our writer."""
    app = app_instance()
    if model not in app.served:
        raise HTTPException(404, f"model must be one of {', '.join(app.served)}, got {model}")
    if "/" in image or "\\" in image or image.startswith("."):
        raise HTTPException(404, f"image must be an id of the datastore, got {image!r}")
    if session_id and app.sessions().get_session(session_id) is None:
        raise HTTPException(404, "session must be an open one, got another; create one")
    try:
        wanted = json.loads(params or "{}")
        if not isinstance(wanted, dict):
            raise ValueError
    except ValueError as error:
        raise HTTPException(400, f"params must be a JSON object, got {params[:50]!r}") from error
    if output is ResultType.dicom_seg:
        wanted, output = {**wanted, "result_extension": ".dcm"}, ResultType.image
    for name in ("model", "image", "description"):  # the request's own, not to be replaced
        wanted.pop(name, None)
    return run_inference(background_tasks, model, image, session_id, json.dumps(wanted), file, label, output)


def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Name the error; the log has it too."""
    if isinstance(error, MONAILabelException):
        status, message = 404 if error.error in UNKNOWN else 500, error.msg
    else:
        status, message = 400 if isinstance(error, InputError) else 500, str(error).splitlines()[0]
    logger.warning("%s %s: %d", request.method, request.url.path, status)
    return JSONResponse({"detail": message}, status)
