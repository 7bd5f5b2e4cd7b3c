"""One process that serves MONAI Label's protocol with our app: its folder, its settings, its answers to errors."""

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
from ..files import finish_interrupted, temporary_folder
from ..io.reader import SUFFIXES
from .endpoints import opened
from .gate import Rules, allowed
from .model_registry import copies

MAIN = f"from {__package__}.app import LabelApp\n\n__all__ = ['LabelApp']\n"  # MONAI Label imports APP/main.py by path
TOKEN = "UNETPP_LABEL_TOKEN"  # environment variable of the token, for processes that the server starts too
SHORTEST_TOKEN = 16  # characters
UPLOADS = "uploads"  # folder of what clients send, in the server's own folder, as long as it is looked at
SHIM = Path(__file__).parent / "shim"
NEEDS = (
    "MONAI Label must be installed to serve it, got no module {}; run `make label`, then .venv-label/bin/unetpp label"
)


@dataclass(frozen=True)
class Site:
    """What is served where."""

    studies: str  # folder, or address of a DICOMweb server
    bundles: tuple[Path, ...] = ()  # bundle folders; none: the one that came with this package
    state: Path | None = None  # the server's own folder; None: beside the studies
    host: str = "127.0.0.1"  # address to listen at
    port: int = 8000
    device: str = "auto"  # as `Segmenter` takes it
    runtime: str = "auto"  # as `Segmenter` takes it
    user: str | None = None  # of the DICOMweb server, for basic authentication
    password: str | None = None
    ca: Path | None = None  # PEM file of authorities to trust
    any_modality: bool = False  # also series of another modality than the bundles'
    origins: tuple[str, ...] = ()  # whose pages may ask, besides this server's own; such as https://viewer.example
    token: str | None = None  # that every request must have; None: none
    opened: tuple[str, ...] = ()  # endpoints to open that are closed, such as "DELETE /datastore/image"
    trust: bool = False  # the bundles' configs may run anything, see `read_bundle`

    @property
    def remote(self) -> bool:
        """Whether the studies are on a DICOMweb server."""
        return self.studies.startswith(("http://", "https://"))

    @property
    def url(self) -> str:
        """Address at which processes of this machine reach the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def rules(self) -> Rules:
        """Who may ask, and for what.

        Raises:
            InputError: an origin is none, there is no such endpoint to open, or the token is too short.
        """
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise InputError(f"a token must have at least {SHORTEST_TOKEN} characters, got {len(self.token)}")
        return Rules(self.host, allowed(self.origins), self.token, opened(self.opened))

    @property
    def folder(self) -> Path:
        """The server's own folder: copies of bundles and their versions, what was fetched, logs."""
        default = Path("unetpp_label") if self.remote else Path(self.studies) / "unetpp_label"
        return (self.state or default).resolve()


def serve(site: Site) -> None:
    """Serve until stopped; does not return once the server has started.

    Raises:
        InputError: no studies, the port is taken, an option is impossible, or MONAI Label is not installed.
        BundleError: a bundle is wrong.
        OutputError: the server's folder cannot be written.
    """
    rules = site.rules()
    if not site.remote and not Path(site.studies).is_dir():
        raise InputError(f"studies must be a folder or a DICOMweb address, got {site.studies}; check the path")
    _check_port(site.host, site.port)
    conf = prepare(site)
    _environment(site)
    try:
        import monailabel.main
        from monailabel.interfaces.utils.app import app_instance
        from monailabel.utils.others.generic import init_log_config
    except ModuleNotFoundError as error:
        raise InputError(NEEDS.format(error.name)) from error
    studies = site.studies.rstrip("/") if site.remote else str(Path(site.studies).resolve())
    options = Namespace(app=str(site.folder), studies=studies, conf=list(conf.items()), port=site.port, dryrun=False)
    monailabel.main.Main().start_server_init_settings(options)
    app_instance().load()
    from .web import run, web_app

    with _uploads(site.folder / UPLOADS) as folder:
        log = init_log_config(None, str(site.folder), "app.log", "INFO")
        run(web_app(rules), site.host, site.port, log, folder)


@contextmanager
def _uploads(folder: Path) -> Iterator[Path]:
    """Give a folder for all temporary files of this process; what killed servers left is removed."""
    folder.mkdir(exist_ok=True)
    finish_interrupted(folder, ending="/")  # no name ends so: nothing is kept
    with temporary_folder(folder) as temporary:
        tempfile.tempdir = str(temporary)
        try:
            yield temporary
        finally:
            tempfile.tempdir = None


def prepare(site: Site) -> dict[str, str]:
    """Write the server's folder; what is there already is kept.

    Returns:
        The app's `conf`.

    Raises:
        BundleError: a bundle is wrong, or another one than the folder's.
        OutputError: the folder cannot be written.
    """
    try:
        site.folder.mkdir(parents=True, exist_ok=True)
        (site.folder / "main.py").write_text(MAIN)
    except OSError as error:
        raise OutputError(
            f"{site.folder} must be writable, got {error.strerror}; choose another", option="state"
        ) from error
    bundles = [str(folder) for folder in copies(site.bundles, site.folder, trust=site.trust)]
    ca = "" if site.ca is None else str(site.ca.resolve())
    return {
        "bundles": json.dumps(bundles),
        "device": site.device,
        "runtime": site.runtime,
        "ca": ca,
        "any_modality": "yes" if site.any_modality else "",
        "server": site.url,
        "trust": "yes" * site.trust,
    }


def _environment(site: Site) -> None:
    """Settings of MONAI Label, which it reads when it is imported, here and in the processes that it starts."""
    from .shim import sitecustomize  # in this process too

    endings = [f"*{suffix}" for suffix in sorted(SUFFIXES, key=len, reverse=True)]
    path = [str(SHIM), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        "PYTHONPATH": os.pathsep.join(path),
        "MONAI_ZOO_SOURCE": "local",  # the default asks a server for its list of models
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_SESSION_PATH": str(site.folder / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(endings),
        sitecustomize.SERVER: str(os.getpid()),
        **({TOKEN: site.token} if site.token else {}),
        **({"MONAI_LABEL_DICOMWEB_USERNAME": site.user} if site.user else {}),
        **({"MONAI_LABEL_DICOMWEB_PASSWORD": site.password} if site.password else {}),
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
