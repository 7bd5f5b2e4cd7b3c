"""Requests to segment, to choose an image, to train and to score; unknown options are dropped."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, File, Form, HTTPException, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints.activelearning import sample
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from ..errors import InputError
from ..io.reader import SUFFIXES
from .background import start
from .batch import BatchOptions
from .uploads import json_object, received

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
Text = Annotated[str, Form()]
Params = dict[str, Any]

# options that clients may set for inference and batches; others, such as paths, are dropped
INFER = (
    *("depth", "device", "uncertainty", "result_extension", "result_dtype", "result_compress"),
    *("save_label", "label_tag", "client_id"),
)
BATCH = ("device", "depth", "label_tag", "max_batch_size")
CLIENT_CHARACTERS = 200
RUNNING = "{} is already running; wait for it, or stop it"


def infer(  # noqa: PLR0913  # the protocol's fields
    background_tasks: BackgroundTasks,
    user: Reader,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Text = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Answer as MONAI Label does, in a thread, with SEGs from our writer."""
    app = app_instance()
    asked = json_object(params, "params")
    wanted = {**_only(asked, INFER), "prompts": _only(asked, app.prompt_keys(model))}
    if output is ResultType.dicom_seg:
        wanted, output = {**wanted, "result_extension": ".dcm"}, ResultType.image
    with _source(image, session_id, file) as path:
        request = {**wanted, "model": model, "image": image, **({"file": str(path)} if path else {})}
        return send_response(app.datastore(), app.infer(request), output, background_tasks)


@contextmanager
def _source(image: str, session_id: str, file: UploadFile | None) -> Iterator[Path | None]:
    """Yield the path of the image; None: the datastore's."""
    if session_id:
        session = app_instance().sessions().get_session(session_id)
        if session is None:
            raise HTTPException(404, "session must be an open one, got another; create one")
        yield Path(session.image)
    elif file is not None:
        with received(file, (*SUFFIXES, ".dcm", ".zip")) as path:
            yield path
    elif image:
        yield None
    else:
        raise HTTPException(400, "a request must have image, file or session_id, got none of them")


async def next_sample(user: Reader, strategy: str, params: Params | None = None) -> Any:
    """Choose the next image, for one client at a time."""
    known = _only(params or {}, ["client_id", "model"])
    if not all(isinstance(value, str) and len(value) <= CLIENT_CHARACTERS for value in known.values()):
        raise InputError(f"client_id and model must be texts of at most {CLIENT_CHARACTERS} characters, got others")
    return sample(strategy, known, user.username)


def train_all(user: Admin, params: Params | None = None, run_sync: bool = False) -> Params:
    """Train all models in turn."""
    return _start_all("train", "model", app_instance().trainers(), params, run_sync=run_sync)


def train(
    user: Admin, model: str, params: Params | None = None, run_sync: bool = False, enqueue: bool = False
) -> Params:
    """Train a model, unless a training is running."""
    task = app_instance().trainers()[model]
    return _start("train", "model", model, task.checked(params or {}), enqueue=enqueue, run_sync=run_sync)


def score_all(user: Annotator, params: Params | None = None, run_sync: bool = False) -> Params:
    """Score by all methods in turn."""
    return _start_all("scoring", "method", app_instance().scoring_methods(), params, run_sync=run_sync)


def score(user: Annotator, method: str, params: Params | None = None, run_sync: bool = False) -> Params:
    """Score by a method, unless it is running."""
    task = app_instance().scoring_methods()[method]
    return _start("scoring", "method", method, task.checked(params or {}), run_sync=run_sync)


def batch(
    user: Admin,
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: Params | None = None,
    run_sync: bool = False,
) -> Params:
    """Segment many images."""
    wanted = _only(params or {}, BATCH)
    BatchOptions.of(wanted)
    return _start("batch_infer", "model", model, {**wanted, "images": images.value}, run_sync=run_sync)


def _start_all(method: str, name: str, choices: Mapping[str, Any], params: Params | None, *, run_sync: bool) -> Params:
    given = {one: (params or {}).get(one) or {} for one in choices}
    if wrong := [one for one, options in given.items() if not isinstance(options, dict)]:
        raise InputError(f"options must be objects by {name}, got another for {wrong[0]}")
    checked = {one: choices[one].checked(options) for one, options in given.items()}
    _check_apart(run_sync)
    tasks = {one: start(method, {**checked[one], name: one}, name=name, enqueue=True) for one in choices}
    if not any(tasks.values()):
        raise HTTPException(409, RUNNING.format(method))
    return {one: {"result": task, "detail": None if task else RUNNING.format(method)} for one, task in tasks.items()}


def _start(
    method: str, name: str, value: str, options: Params, *, enqueue: bool = False, run_sync: bool = False
) -> Params:
    _check_apart(run_sync)
    task = start(method, {**options, name: value}, name=name, enqueue=enqueue)
    if task is None:
        raise HTTPException(409, RUNNING.format(method))
    return task


def _check_apart(run_sync: bool) -> None:
    if run_sync:
        raise HTTPException(400, "run_sync must be false: tasks run in the background")


def _only(params: Params, keys: Iterable[str]) -> Params:
    return {key: params[key] for key in keys if key in params}


_ENDPOINTS = (
    ("POST", "/infer/{model}", infer),
    ("POST", "/activelearning/{strategy}", next_sample),
    ("POST", "/train/", train_all),
    ("POST", "/train/{model}", train),
    ("POST", "/scoring/", score_all),
    ("POST", "/scoring/{method}", score),
    ("POST", "/batch/infer/{model}", batch),
)
ROUTES = [APIRoute(path, answer, methods=[method], include_in_schema=False) for method, path, answer in _ENDPOINTS]
