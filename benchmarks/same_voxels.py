"""Do two commits give the same label maps? Bit for bit, in eager PyTorch, from the command line of each.

git worktree add /tmp/before COMMIT
python -m benchmarks.same_voxels /tmp/before [--data ../shared/data] [--cases 10]

Segments the sample, the two DICOM series of crops, the first hippocampi and the first pictures of nuclei with both, and
prints how many voxels differ. Exit 1 if any does.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SERIES = ("dicom/Study1_13_HCropVolume", "dicom/Study3_11_HCropVolume")
RUNS = {  # name -> options of both
    "full depth": (),
    "depth 1": ("--depth", "1"),
    "auto": ("--depth", "auto"),
    "mirrored": ("--mirror", "0"),
}


def main() -> int:
    """Compare two trees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--cases", type=int, default=10, help="how many of each data set")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="which to compare")
    options = parser.parse_args()
    hippocampi = sorted((options.data / "Task04_Hippocampus/imagesTr").glob("hippocampus_*.nii.gz"))[: options.cases]
    pictures = sorted((options.data / "DSB2018/images").glob("*.png"))[: options.cases]
    sample = ROOT / "unetpp_monai/sample/mni_hippocampus_right.nii.gz"
    volumes = [sample, *(options.data / series for series in SERIES), *hippocampi]
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        trees = {"before": options.before.resolve(), "after": ROOT}
        bundles = {
            (task, name): _packed(tree, task, Path(folder) / f"{task}_{name}")
            for task in ("hippocampus", "nuclei_2d")
            for name, tree in trees.items()
        }
        for run in options.runs:
            found = {}
            for name, tree in trees.items():
                out = Path(folder) / name / run.replace(" ", "_")
                for task, images in (("hippocampus", volumes), ("nuclei_2d", pictures)):
                    options_of = ("--bundle", bundles[task, name], "--runtime", "eager", "--device", "cpu", *RUNS[run])
                    _unetpp(tree, "segment", *images, "-o", out, *options_of)
                found[name] = {
                    path.name: _voxels(path) for path in sorted(out.glob("*_seg.*")) if path.suffix != ".tsv"
                }
            different += _compared(run, found["before"], found["after"])
    return int(different > 0)


def _compared(run: str, before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> int:
    """Print how the label maps of a run differ; return in how many voxels."""
    if before.keys() != after.keys():
        raise SystemExit(f"both must write the same files, got {sorted(before.keys() ^ after.keys())} from one only")
    wrong = {case: int((after[case] != voxels).sum()) for case, voxels in before.items()}
    print(
        f"{run}: {len(wrong)} label maps, {sum(map(bool, wrong.values()))} differ in {sum(wrong.values())} voxels",
        flush=True,
    )
    return sum(wrong.values())


def _packed(tree: Path, task: str, folder: Path) -> Path:
    """Pack a task; a tree without that task has it as its default bundle."""
    named = ("--task", task) if (tree / "configs" / task).is_dir() else ()
    _unetpp(tree, "pack", *named, "-o", folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def _unetpp(tree: Path, *arguments: object) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "unetpp_monai", *map(str, arguments)]
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)


def _voxels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) if path.suffix == ".png" else np.asarray(nib.load(path).dataobj)


if __name__ == "__main__":
    sys.exit(main())
