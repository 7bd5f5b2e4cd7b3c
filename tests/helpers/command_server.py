"""Run apart from the tests: commands as `python -W ignore -m MODULE ...` runs them, each in a fork of this process.

Half of a short command's time is the import of libraries; here they are imported once. A line of JSON on stdin is a
command: module, arguments, folder, environment, and files for stdout and stderr. A line on stdout is its exit code.
Nothing of ours is loaded before the fork.
"""

import gc
import json
import os
import runpy
import sys
import warnings

# ruff: noqa: F401, E402 - loaded for the commands
warnings.simplefilter("ignore")
import fire
import ignite.engine
import ignite.metrics
import monai.bundle
import monai.data
import monai.engines
import monai.handlers
import monai.inferers
import monai.losses
import monai.metrics
import monai.transforms
import nibabel
import pydicom
import rich.progress
import SimpleITK
import torch
import typer
from PIL import Image


def become(module, arguments, folder, environment, files):
    """Turn this process into the one that runs a command."""
    for number, (path, flags) in enumerate(zip((os.devnull, *files), (os.O_RDONLY, *[os.O_WRONLY] * 2), strict=True)):
        opened = os.open(path, flags | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main():
    gc.freeze()  # what is loaded need not be looked through in each fork
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            return become(**json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
