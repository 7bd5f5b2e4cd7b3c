"""Provide modules that MONAI Label 0.8.5 imports but pydicom 3 and our environment lack, and patch one.

`pydicom._storage_sopclass_uids` is `pydicom.uid` since pydicom 3; of torchvision only two functions are used, which
draw pictures of trainings. Existing modules have priority. MONAI Label's writer states mm and form codes 1 in every
NIfTI result; here a result keeps unit, codes and affines of its image.
Child processes of our server end with it, however it ends.
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

MOVED = {"pydicom._storage_sopclass_uids": "pydicom.uid"}  # old name -> new name
STUBS: dict[str, tuple[str, ...]] = {"torchvision": (), "torchvision.utils": ("make_grid", "save_image")}

SERVER = "UNETPP_LABEL_SERVER"  # environment variable with the process id of our server
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl

WRITER = "monailabel.transform.writer"
NIFTI = (".nii", ".nii.gz")


class Missing(MetaPathFinder, Loader):
    """Finds the modules of `MOVED` and `STUBS` if nothing else does."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return a spec for a missing module, None for others."""
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
    """Finds `WRITER` first, and patches its class `Writer` after import."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return the module's spec with this loader, None for others."""
        spec = PathFinder.find_spec(fullname, path) if fullname == WRITER else None
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then patch it."""
        if self.loader is not None:
            self.loader.exec_module(module)
        module.Writer.__call__ = as_the_image(module.Writer.__call__)


def as_the_image(write: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """Wrap MONAI Label's `Writer.__call__`, which returns a path and a report."""

    def wrapped(self: Any, data: dict[str, Any]) -> tuple[Any, Any]:
        file, report = write(self, data)
        image = str(data.get("image_path") or "")
        both = (str(file), image)
        if "unetpp_monai" in sys.modules and all(
            path.lower().endswith(NIFTI) and Path(path).is_file() for path in both
        ):
            ours = importlib.import_module("unetpp_monai.io.nifti")  # of the loaded app
            labels, source = ours.read_nifti(Path(file)), ours.read_nifti(Path(image))
            if labels.shape == source.shape:
                ours.write_nifti(replace(labels, affine=source.affine), Path(file), like=Path(image))
        return file, report

    return wrapped


def not_here(*args: Any, **kwargs: Any) -> NoReturn:
    """Stand in for a function of torchvision.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("torchvision must be installed to draw pictures of trainings; this environment has none")


def end_with_parent() -> None:
    """Kill this process when its parent ends, on Linux; elsewhere it may outlive its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        try:
            os.kill(int(os.environ[SERVER]), 0)
        except ProcessLookupError:  # the parent ended before
            os._exit(1)


if os.environ.get(SERVER, str(os.getpid())) != str(os.getpid()):
    end_with_parent()
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=end_with_parent)
if not any(type(finder).__name__ == "Missing" for finder in sys.meta_path):
    sys.meta_path.append(Missing())
    sys.meta_path.insert(0, Mended())
