"""What clicks are worth: `python -m benchmarks.clicks DATASET --task TASK --weights WEIGHTS -o OUT`.

A robot clicks with jitter into the largest error of cases that the weights were not trained on. Dice, HD95 and seconds
over clicks, for each depth, and beside it for a random walker on the probabilities (`--random_walker`) and MONAI's
DeepEdit (`--deepedit`). What was measured is kept by case, so that a run which was interrupted goes on; `--table` only
writes table.json, table.md and clicks.png. `--picture CASE` draws that case after 0, 1 and 3 clicks instead.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.fold import fold_cases
from unetpp_monai import Segmenter, Volume, check_task, read_volume
from unetpp_monai.bundle import write_bundle
from unetpp_monai.files import complete_file
from unetpp_monai.task import read_task

from .correctors import Ours, RandomWalker
from .robot import Case, Corrector, correct
from .table import CASES, write_table

NOT_MARKED = 4  # in ACDC's scribbles


def main() -> None:
    """Measure what is not measured yet."""
    options = arguments()
    (options.output / CASES).mkdir(parents=True, exist_ok=True)
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "bundle"
            write_bundle(check_task(options.task), root, weights=options.weights)
            segmenter = Segmenter.from_bundle(root, device=options.device, runtime=options.runtime)
            if options.picture:
                return draw_case(segmenter, options)
            measure(segmenter, options)
    write_table(options.output)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="folder of images and labels, as the task names them")
    parser.add_argument("--task", default="hippocampus_interactive", help="folder of a task, or the name of one")
    parser.add_argument("--weights", type=Path, help="trained without the fold")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--cases", type=int, help="no more than these")
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--jitter", type=int, default=1, help="voxels beside the aim, at most")
    parser.add_argument("--depths", nargs="*", default=["1", "2", "full"])
    parser.add_argument("--scribbles", type=Path, help="folder of label maps that people scribbled: the first prompts")
    parser.add_argument("--random_walker", action="store_true")
    parser.add_argument("--deepedit", type=Path, help="weights of benchmarks.clicks.deepedit")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", help="only write the table of what is there")
    parser.add_argument("--picture", metavar="CASE", help="draw this case after 0, 1 and 3 clicks: CASE.png")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def measure(segmenter: Segmenter, options: argparse.Namespace) -> None:
    """Let every contender be corrected on every case."""
    prefix = "scribbles, then " if options.scribbles else ""
    contenders: dict[str, Corrector] = {f"{prefix}depth {depth}": Ours(segmenter, depth) for depth in options.depths}
    if options.random_walker:
        contenders["random walker"] = RandomWalker(segmenter)
    if options.deepedit:
        from .deepedit import DeepEdit

        contenders["DeepEdit"] = DeepEdit(segmenter, options.deepedit)
    values = read_task(options.task).values.get("label_values", [])
    indices = [label.index for label in segmenter.bundle.labels]
    for case in fold_cases(options.fold, options.dataset, options.task)[: options.cases]:
        name = Path(case["label"]).name.removesuffix(".nii.gz")
        place = options.output / CASES / f"{name}.json"
        known = json.loads(place.read_text()) if place.is_file() else {}
        for contender, corrector in contenders.items():
            if contender in known:
                continue
            read = read_case(case, name, values, options.scribbles)
            if not known and contender == next(iter(contenders)):
                corrector.begin(read)  # what compiles does so before it is timed
            known[contender] = correct(read, corrector, indices, clicks=options.clicks, jitter=options.jitter)
            with complete_file(place) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
            print(name, contender, *(f"{dice:.3f}" for dice, _, _ in known[contender]), flush=True)


def draw_case(segmenter: Segmenter, options: argparse.Namespace) -> None:
    """Draw one case of the fold, at the first of the depths."""
    from .picture import draw

    cases = {
        Path(case["label"]).name.removesuffix(".nii.gz"): case
        for case in fold_cases(options.fold, options.dataset, options.task)
    }
    values = read_task(options.task).values.get("label_values", [])
    case = read_case(cases[options.picture], options.picture, values, None)
    draw(case, Ours(segmenter, options.depths[0]), options.output / f"{options.picture}.png", jitter=options.jitter)


def read_case(case: dict[str, str], name: str, values: list[int], scribbles: Path | None) -> Case:
    """Read an image, its reference, and scribbles if there are any."""
    image, reference = read_volume(case["image"]), read_volume(case["label"], labels=True)
    if values:
        reference = Volume(np.stack([reference.array == value for value in values]).argmax(0), reference.affine)
    marked = None
    if scribbles is not None:
        found = read_volume(scribbles / Path(case["label"]).name, labels=True)
        marked = Volume(np.where(found.array == NOT_MARKED, -1, found.array.astype(np.int16)), image.affine)
    return Case(name, image, reference, marked)


if __name__ == "__main__":
    main()
