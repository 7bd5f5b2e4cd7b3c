"""Modules that MONAI Label 0.8.5 imports and that a lean environment with pydicom 3 does not have, and one it has.

`pydicom._storage_sopclass_uids` is `pydicom.uid` since pydicom 3; of torchvision only two functions are named, which
draw pictures of trainings. Modules that do exist are found first. The writer of MONAI Label's own apps states every
NIfTI result in mm and with two forms of code 1; here a result takes unit, codes and affines of its image instead.
A process that our server started ends with it, however the server ends.
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

MOVED = {"pydicom._storage_sopclass_uids": "pydicom.uid"}  # old name -> where its content is now
STUBS: dict[str, tuple[str, ...]] = {"torchvision": (), "torchvision.utils": ("make_grid", "save_image")}

SERVER = "UNETPP_LABEL_SERVER"  # environment variable with the process id of our server
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl

WRITER = "monailabel.transform.writer"
NIFTI = (".nii", ".nii.gz")


class Missing(MetaPathFinder, Loader):
    """Finds the modules of `MOVED` and `STUBS` where nothing else does."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Give a spec for a missing module, None for any other."""
        if fullname in MOVED or fullname in STUBS:
            return ModuleSpec(fullname, self, is_package=fullname == "torchvision")
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        if module.__name__ in MOVED:
            content = vars(importlib.import_module(MOVED[module.__name__]))
            vars(module).update({key: value for key, value in content.items() if not key.startswith("__")})
            return
        vars(module).update(__version__="0.0.0+stub", **dict.fromkeys(STUBS[module.__name__], not_here))


class Mended(MetaPathFinder, Loader):
    """Finds `WRITER` before anything else does, and changes its class `Writer` once it is there."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Give the module's spec with this loader, None for any other module."""
        spec = PathFinder.find_spec(fullname, path) if fullname == WRITER else None
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then change it."""
        if self.loader is not None:
            self.loader.exec_module(module)
        module.Writer.__call__ = as_the_image(module.Writer.__call__)


def as_the_image(write: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """Wrap MONAI Label's `Writer.__call__`, which returns the path of what it wrote and a report."""

    def wrapped(self: Any, data: dict[str, Any]) -> tuple[Any, Any]:
        file, report = write(self, data)
        image = str(data.get("image_path") or "")
        both = (str(file), image)
        if "unetpp_monai" in sys.modules and all(
            path.lower().endswith(NIFTI) and Path(path).is_file() for path in both
        ):
            ours = importlib.import_module("unetpp_monai.io.nifti")  # that of the bundle which the app has loaded
            labels, source = ours.read_nifti(Path(file)), ours.read_nifti(Path(image))
            if labels.shape == source.shape:
                ours.write_nifti(replace(labels, affine=source.affine), Path(file), like=Path(image))
        return file, report

    return wrapped


def not_here(*args: Any, **kwargs: Any) -> NoReturn:
    """Stand for a function of torchvision.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("torchvision must be installed to draw pictures of trainings; this environment has none")


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        try:
            os.kill(int(os.environ[SERVER]), 0)
        except ProcessLookupError:  # it ended before this was said
            os._exit(1)


if os.environ.get(SERVER, str(os.getpid())) != str(os.getpid()):
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)
if not any(type(finder).__name__ == "Missing" for finder in sys.meta_path):
    sys.meta_path.append(Missing())
    sys.meta_path.insert(0, Mended())
