"""Run MONAI Label's server with our app: its folder, settings and error answers."""

import json
import os
import socket
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputError
from ..files import finish_interrupted, in_the_way, temporary_folder
from ..io.reader import SUFFIXES
from .endpoints import opened
from .gate import Rules, allowed
from .model_registry import copies

MAIN = f"from {__package__}.app import LabelApp\n\n__all__ = ['LabelApp']\n"  # MONAI Label imports APP/main.py by path
TOKEN = "UNETPP_LABEL_TOKEN"  # environment variable of the token, also for child processes
SHORTEST_TOKEN = 16  # characters
UPLOADS = "uploads"  # temporary folder of uploads, in the server's folder
SHIM = Path(__file__).parent / "shim"
NEEDS = (
    "MONAI Label must be installed to serve it, got no module {}; run `make label`, then .venv-label/bin/unetpp label"
)


@dataclass(frozen=True)
class ServerOptions:
    """Settings of the label server."""

    studies: str  # folder, or address of a DICOMweb server
    bundles: tuple[Path, ...] = ()  # bundle folders; empty: the included bundle
    state: Path | None = None  # the server's folder; None: beside the studies
    host: str = "127.0.0.1"  # address to listen at
    port: int = 8000
    device: str = "auto"  # as for `Segmenter`
    runtime: str = "auto"  # as for `Segmenter`
    user: str | None = None  # of the DICOMweb server, for basic authentication
    password: str | None = None
    ca: Path | None = None  # PEM file of trusted certificate authorities
    any_modality: bool = False  # also accept series of another modality than the bundles'
    origins: tuple[str, ...] = ()  # whose pages may send requests, besides this server; as https://viewer.example
    token: str | None = None  # required in every request; None: no token
    opened: tuple[str, ...] = ()  # closed endpoints to open, such as "DELETE /datastore/image"
    trust: bool = False  # see `read_bundle`

    @property
    def remote(self) -> bool:
        """Whether the studies are on a DICOMweb server."""
        return self.studies.startswith(("http://", "https://"))

    @property
    def url(self) -> str:
        """Address of the server for processes on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def rules(self) -> Rules:
        """Return the access rules.

        Raises:
            InputError: an invalid origin, an unknown endpoint to open, or a token that is too short.
        """
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise InputError(f"a token must have at least {SHORTEST_TOKEN} characters, got {len(self.token)}")
        return Rules(self.host, allowed(self.origins), self.token, opened(self.opened))

    @property
    def folder(self) -> Path:
        """Folder of the server: copies of bundles and their versions, fetched series, logs."""
        default = Path("unetpp_label") if self.remote else Path(self.studies) / "unetpp_label"
        return (self.state or default).resolve()


def serve(options: ServerOptions) -> None:
    """Serve until stopped; does not return once the server has started.

    Raises:
        InputError: no studies, the port is in use, an invalid option, or MONAI Label is not installed.
        BundleError: an invalid bundle.
        OutputError: the server's folder is not writable.
    """
    rules = options.rules()
    if not options.remote and not Path(options.studies).is_dir():
        raise InputError(f"studies must be a folder or a DICOMweb address, got {options.studies}; check the path")
    _check_port(options.host, options.port)
    conf = prepare(options)
    _environment(options)
    try:
        import monailabel.main
        from monailabel.interfaces.utils.app import app_instance
        from monailabel.utils.others.generic import init_log_config
    except ModuleNotFoundError as error:
        raise InputError(NEEDS.format(error.name)) from error
    studies = options.studies.rstrip("/") if options.remote else str(Path(options.studies).resolve())
    arguments = Namespace(
        app=str(options.folder), studies=studies, conf=list(conf.items()), port=options.port, dryrun=False
    )
    monailabel.main.Main().start_server_init_settings(arguments)
    app_instance().load()
    from .web import run, web_app

    with _uploads(options.folder / UPLOADS) as folder:
        log = init_log_config(None, str(options.folder), "app.log", "INFO")
        run(web_app(rules), options.host, options.port, log, folder)


@contextmanager
def _uploads(folder: Path) -> Iterator[Path]:
    """Make a folder for all temporary files of this process; leftovers of killed servers are removed."""
    folder.mkdir(exist_ok=True)
    finish_interrupted(folder, ending="/")  # no name ends like this: nothing is kept
    with temporary_folder(folder) as temporary:
        tempfile.tempdir = str(temporary)
        try:
            yield temporary
        finally:
            tempfile.tempdir = None


def prepare(options: ServerOptions) -> dict[str, str]:
    """Write the server's folder; existing content is kept.

    Returns:
        The app's `conf`.

    Raises:
        BundleError: an invalid bundle, or another one than in the folder.
        OutputError: the folder is not writable.
    """
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        (options.folder / "main.py").write_text(MAIN)
    except OSError as error:
        raise OutputError(
            f"{options.folder} must be writable, got {in_the_way(error)}; choose another", option="state"
        ) from error
    bundles = [str(folder) for folder in copies(options.bundles, options.folder, trust=options.trust)]
    ca = "" if options.ca is None else str(options.ca.resolve())
    return {
        "bundles": json.dumps(bundles),
        "device": options.device,
        "runtime": options.runtime,
        "ca": ca,
        "any_modality": "yes" if options.any_modality else "",
        "server": options.url,
        "trust": "yes" * options.trust,
    }


def _environment(options: ServerOptions) -> None:
    """Set MONAI Label's environment variables, read at import, here and in child processes."""
    from .shim import sitecustomize  # also in this process

    endings = [f"*{suffix}" for suffix in sorted(SUFFIXES, key=len, reverse=True)]
    path = [str(SHIM), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        "PYTHONPATH": os.pathsep.join(path),
        "MONAI_ZOO_SOURCE": "local",  # the default downloads a list of models
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_SESSION_PATH": str(options.folder / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(endings),
        sitecustomize.SERVER: str(os.getpid()),
        **({TOKEN: options.token} if options.token else {}),
        **({"MONAI_LABEL_DICOMWEB_USERNAME": options.user} if options.user else {}),
        **({"MONAI_LABEL_DICOMWEB_PASSWORD": options.password} if options.password else {}),
    }
    os.environ.update(settings)


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        message = f"{host}:{port} must be free to listen at, got {error.strerror}; choose another port"
        raise InputError(message, option="port") from error
