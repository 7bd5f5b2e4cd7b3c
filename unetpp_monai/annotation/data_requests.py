"""Requests that change the datastore or open sessions: checked, then handled as in MONAI Label."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, File, Form, HTTPException, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints.session import get_session
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance

from ..io.reader import SUFFIXES
from .datastores import DicomwebStudies
from .endpoints import Kind, fault_of_name
from .uploads import LABEL_SUFFIXES, check_image, noted, received, received_all, stem

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Text = Annotated[str, Form()]
Upload = Annotated[UploadFile, File()]


def add_image(user: Annotator, file: Upload, image: str = "", params: Text = "{}") -> dict[str, str]:
    """Add an image, if it can be segmented and its name is free."""
    app = app_instance()
    if isinstance(app.datastore(), DicomwebStudies):
        raise HTTPException(403, "images of an archive must be sent to the archive")
    name = image or stem(file)
    if fault := fault_of_name(Kind.NEW_IMAGE, name):
        raise HTTPException(400, fault)
    info = noted(params, "params")
    with received(file, SUFFIXES) as path:
        check_image(path, app.channels(), dicom=False)
        return {"image": app.datastore().add_image(name, str(path), {**info, "user": user.username})}


def save_label(
    user: Annotator,
    label: Upload,
    image: str,
    params: Text = "{}",
    tag: str = DefaultLabelTag.FINAL.value,
) -> dict[str, Any]:
    """Save a label map that matches its image."""
    app, info = app_instance(), noted(params, "params")
    with received(label, LABEL_SUFFIXES) as path:
        saved = app.datastore().save_label(
            image, str(path), tag or DefaultLabelTag.FINAL.value, {**info, "user": user.username}
        )
    return {**(app.on_save_label(image, saved) or {}), "image": image, "label": saved}


def image_info(user: Reader, image: str) -> Any:
    """Return the info of an image."""
    studies = app_instance().datastore()
    info = studies.get_image_info(image)
    if not info and image not in studies.list_images():
        raise HTTPException(404, f"image must be one of the datastore's, got {image!r}")
    return info


def label_info(user: Reader, label: str, tag: str) -> Any:
    """Return the info of a label."""
    info = app_instance().datastore().get_label_info(label, tag)
    if not info:
        raise HTTPException(404, f"label must be one of the datastore's, got {label!r}")
    return info


def note_image(user: Annotator, image: str, info: Text = "{}") -> Any:
    """Store a client's info of an image."""
    values = {**noted(info, "info"), "user": user.username}
    return app_instance().datastore().update_image_info(image, values)


def note_label(user: Annotator, label: str, tag: str, info: Text = "{}") -> Any:
    """Store a client's info of a label."""
    values = {**noted(info, "info"), "user": user.username}
    return app_instance().datastore().update_label_info(label, tag, values)


def note_label_as_before(user: Annotator, label: str, tag: str, params: Text = "{}") -> Any:
    """Store an older client's info of a label."""
    return note_label(user, label, tag, params)


def dataset(user: Annotator, background_tasks: BackgroundTasks, limit_cases: int | None = None) -> FileResponse:
    """Return all images with final labels as a zip."""
    studies = app_instance().datastore()
    if not studies.datalist():
        raise HTTPException(404, "a data set needs an image with a final label, got none")
    path = Path(studies.get_dataset_archive(limit_cases))
    background_tasks.add_task(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip")


def create_session(
    user: Reader, files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0
) -> dict[str, Any]:
    """Keep an image temporarily, separate from the studies."""
    app = app_instance()
    if uncompress:
        raise HTTPException(400, "uncompress must be false; a zip of a DICOM series is read directly")
    with received_all(files) as path:
        check_image(path, app.channels(), dicom=True)
        session, info = app.sessions().add_session(str(path), expiry)
    return {"session_id": session, "session_info": info.to_json()}


def session_info(user: Reader, session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Return the info of a session, or its image."""
    if image and Path(app_instance().sessions().get_session(session_id).image).is_dir():
        raise HTTPException(400, "the image of a session must be one file to download, got several")
    return get_session(session_id, update_ts, image)


def faults(kind: Kind, value: str, given: dict[str, str]) -> str:
    """Return the fault of a name in a request, for `Gate`; empty if it exists."""
    app = app_instance()
    choices: dict[Kind, Callable[[], Any]] = {
        Kind.MODEL: lambda: app.served,
        Kind.TRAINER: lambda: app.trainers(),
        Kind.METHOD: lambda: app.scoring_methods(),
        Kind.STRATEGY: lambda: app.strategies(),
        Kind.TAG: lambda: sorted({tag.value for tag in DefaultLabelTag} | app.datastore().tags()),
    }
    if kind in choices:
        known = list(choices[kind]())
        return "" if value in known else f"{kind} must be one of {', '.join(known)}, got {value[:80]}"
    if kind == Kind.SESSION:
        return "" if app.sessions().get_session(value, update_ts=False) else "session must be an open one, got another"
    if kind == Kind.DICOMWEB and not isinstance(app.datastore(), DicomwebStudies):
        return "this request needs studies in an archive, got a folder"
    if kind == Kind.IMAGE and not app.datastore().has_image(value):
        return f"image must be one of the datastore's, got {value[:80]!r}"
    if kind == Kind.LABEL and not app.datastore().has_label(value, given.get("tag", "")):
        return f"label must be one of the datastore's, got {value[:80]!r}"
    return ""


_ENDPOINTS = (
    ("PUT", "/datastore/", add_image),
    ("PUT", "/datastore/image", add_image),
    ("PUT", "/datastore/label", save_label),
    ("GET", "/datastore/image/info", image_info),
    ("GET", "/datastore/label/info", label_info),
    ("PUT", "/datastore/image/info", note_image),
    ("PUT", "/datastore/label/info", note_label),
    ("PUT", "/datastore/updatelabelinfo", note_label_as_before),
    ("GET", "/datastore/dataset", dataset),
    ("PUT", "/session/", create_session),
    ("GET", "/session/{session_id}", session_info),
)
ROUTES = [APIRoute(path, answer, methods=[method], include_in_schema=False) for method, path, answer in _ENDPOINTS]
