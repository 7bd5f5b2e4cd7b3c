"""Modules that MONAI Label 0.8.5 imports and that a lean environment with pydicom 3 does not have.

`pydicom._storage_sopclass_uids` is `pydicom.uid` since pydicom 3; of torchvision only two functions are named, which
draw pictures of trainings. Modules that do exist are found first.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

MOVED = {"pydicom._storage_sopclass_uids": "pydicom.uid"}  # old name -> where its content is now
STUBS: dict[str, tuple[str, ...]] = {"torchvision": (), "torchvision.utils": ("make_grid", "save_image")}


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


def not_here(*args: Any, **kwargs: Any) -> NoReturn:
    """Stand for a function of torchvision.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("torchvision must be installed to draw pictures of trainings; this environment has none")


if not any(type(finder).__name__ == "Missing" for finder in sys.meta_path):
    sys.meta_path.append(Missing())
