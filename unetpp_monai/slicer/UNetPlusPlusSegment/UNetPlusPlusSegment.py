#!/usr/bin/env python3
"""3D Slicer's command line module: run `unetpp segment` of another Python environment, tell Slicer of its progress.

Slicer's own Python runs this file, which therefore needs nothing but the standard library.
"""

from __future__ import annotations  # Slicer's Python may be 3.9

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

SLICERS_OWN = (  # variables by which Slicer would break, or be loaded into, another Python
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "ITK_AUTOLOAD_PATH",
)
PATIENCE_S = 5.0  # between asking the process to end and killing it
FORMATS = {".nrrd": "segnrrd", ".nii.gz": "nifti"}  # ending of the label volume -> format of unetpp
MAP_ENDING = ".nii.gz"  # of the uncertainty volume, the one format in which unetpp writes it
STOPS = (signal.SIGTERM, signal.SIGINT)
PREFIX = "unetpp_segment_"  # of working folders, beside the label volume
STALE_S = 24 * 3600.0  # age of a working folder at which nobody works in it
PROGRESS = re.compile(r"progress (\d+)/(\d+)")
ADVICE = "give the path of python or unetpp of the environment in which unetpp_monai is installed"


class ModuleError(Exception):
    """What went wrong, for whoever reads Slicer's log."""


class Cancelled(Exception):  # noqa: N818 - nothing is wrong
    """Slicer asked to stop."""


def main(arguments: Sequence[str]) -> int:
    """Run the module; return the exit code."""
    if list(arguments) == ["--xml"]:
        sys.stdout.write(Path(__file__).with_suffix(".xml").read_text(encoding="utf-8"))
        return 0
    options = parse(arguments)
    for number in STOPS:
        signal.signal(number, cancel)
    try:
        run(options)
    except (ModuleError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except Cancelled:
        return 128 + signal.SIGTERM
    return 0


def cancel(number: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that everything is cleared away."""
    for stop_signal in STOPS:  # once is enough
        signal.signal(stop_signal, signal.SIG_IGN)
    raise Cancelled


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line that Slicer makes of the `.xml` file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("input", type=Path)
    parser.add_argument("label", type=Path)
    parser.add_argument("--uncertainty", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--depth", default="full")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--executable", default="")
    parser.add_argument("--returnparameterfile", type=Path)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Segment, and deliver all results or none.

    Raises:
        ModuleError: no such format, input or environment, or it could not segment.
    """
    kind = format_of(options.label)
    if options.uncertainty is not None and not options.uncertainty.name.lower().endswith(MAP_ENDING):
        raise ModuleError(f"the uncertainty volume must end in {MAP_ENDING}, got {options.uncertainty.name}")
    if not options.input.is_file():
        raise ModuleError(f"the input volume must exist, got {options.input}")
    executable = find_executable(options.executable)
    emit(
        f"<filter-start><filter-name>UNet++ Segment</filter-name>"
        f"<filter-comment>starting {escape(str(executable))}</filter-comment></filter-start>"
    )
    parent = options.label.absolute().parent
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        follow(command(executable, folder, kind, options), folder)
        emit("<filter-progress>0.98</filter-progress><filter-comment>writing</filter-comment>")
        deliver(folder, kind, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    emit("<filter-progress>1</filter-progress><filter-end><filter-name>UNet++ Segment</filter-name></filter-end>")


def format_of(label: Path) -> str:
    """Format of `unetpp segment` that a label volume's ending asks for."""
    for ending, kind in FORMATS.items():
        if label.name.lower().endswith(ending):
            return kind
    raise ModuleError(f"the label volume must end in {' or '.join(FORMATS)}, got {label.name}")


def find_executable(given: str) -> Path:
    """Find python or unetpp of the environment with unetpp_monai.

    Args:
        given: path, or empty: the environment that this file lies in, or the PATH.

    Raises:
        ModuleError: there is none.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            raise ModuleError(f"{given} is not a program that can be run; {ADVICE}")
        return Path(found).absolute()
    for folder in Path(__file__).resolve().parents:
        for place in ("bin/unetpp", "Scripts/unetpp.exe", ".venv/bin/unetpp", ".venv/Scripts/unetpp.exe"):
            if (folder / place).is_file():
                return folder / place
    found = shutil.which("unetpp")
    if found is None:
        raise ModuleError(f"unetpp was not found; {ADVICE}")
    return Path(found).absolute()


def sweep(parent: Path) -> None:
    """Remove what runs left that Slicer killed, which is how it cancels; younger ones may still be at work."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another run has removed it
            continue


def command(executable: Path, folder: Path, kind: str, options: argparse.Namespace) -> list[str]:
    """Command line of the process that segments."""
    python = executable.name.lower().startswith("python")
    parts = [str(executable), *(["-m", "unetpp_monai"] if python else [])]
    parts += ["segment", str(options.input.absolute()), "-o", str(folder), "--format", kind, "--progress"]
    parts += ["--depth", options.depth, "--device", options.device]
    if options.bundle is not None:
        parts += ["--bundle", str(options.bundle.absolute())]
    if options.uncertainty is not None:
        parts += ["--uncertainty"]
    return parts


def environment() -> dict[str, str]:
    """The environment, without what Slicer put into it for itself."""
    return {name: value for name, value in os.environ.items() if name not in SLICERS_OWN}


def follow(parts: Sequence[str], folder: Path) -> None:
    """Run a process to its end and report its progress; it ends with this one.

    Raises:
        ModuleError: it failed.
    """
    with process(parts, folder) as child:
        try:
            said = list(translated(child))
            code = child.wait()
        finally:  # Cancelled above all
            if child.poll() is None:
                stop(child)
    if code != 0:
        errors = [line for line in said if line.startswith("error: ")] or said[-20:]
        reason = "\n".join(errors).removeprefix("error: ")
        raise ModuleError(reason or f"{Path(parts[0]).name} ended with exit code {code} and no message")


def process(parts: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """Start a process, in a group of its own where there are groups."""
    try:
        return subprocess.Popen(
            parts,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=os.name == "posix",
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise ModuleError(f"{parts[0]} cannot be run ({error.strerror}); {ADVICE}") from error


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent does, even if Slicer kills that."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


def translated(child: Any) -> Iterator[str]:
    """Tell Slicer of progress; yield every other line that the process prints."""
    for line in child.stdout:
        if match := PROGRESS.fullmatch(line.strip()):
            share = 0.05 + 0.9 * int(match[1]) / max(1, int(match[2]))
            comment = f"segmenting, part {match[1]} of {match[2]}"
            emit(f"<filter-progress>{share:.3f}</filter-progress><filter-comment>{comment}</filter-comment>")
        elif line.strip():
            yield line.rstrip()


def stop(child: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            if os.name == "posix":
                os.killpg(child.pid, number)
            else:
                child.kill()
            child.wait(PATIENCE_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def deliver(folder: Path, kind: str, options: argparse.Namespace) -> None:
    """Move results to where Slicer waits for them, the label volume last."""
    report = json.loads(only(folder, "*.json").read_text(encoding="utf-8"))
    label = folder / report["outputs"][kind]["file"]
    if options.returnparameterfile is not None:
        lines = f"volumes = {volumes(report)}\nreview = {review(report)}\n"
        options.returnparameterfile.write_text(lines, encoding="utf-8")
    if options.uncertainty is not None:
        shutil.move(only(folder, "*_uncertainty.nii.gz"), options.uncertainty)
    shutil.move(label, options.label)


def only(folder: Path, pattern: str) -> Path:
    """The one file that matches."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ModuleError(f"unetpp must write one {pattern}, got {len(found)}; is its version this module's?")
    return found[0]


def volumes(report: dict[str, Any]) -> str:
    """Millilitres of each label, in one line."""
    return "; ".join(f"{name}: {ml:.3f} mL" for name, ml in report["ml"].items())


def review(report: dict[str, Any]) -> str:
    """What the report says of a look at the result."""
    if "review" not in report or report["review"] is None:
        return "not known"
    return "yes" if report["review"] else "no"


def emit(tags: str) -> None:
    """Tell Slicer something, now."""
    sys.stdout.write(f"{tags}\n")
    sys.stdout.flush()


def escape(text: str) -> str:
    """Text between tags, which Slicer searches for the next angle bracket."""
    return text.replace("<", "(").replace(">", ")")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
