"""Pictures for the model card: `python -m benchmarks.figures curves ...` and `python -m benchmarks.figures worst ...`.

`curves` draws the loss and the validation Dice that a training left in its `--output_dir`. `worst` shows
the cases with the lowest Dice, the prediction's outlines solid and the reference's dashed.
"""

import argparse
from pathlib import Path

from unetpp_monai import evaluate, find_cases, read_bundle, read_volume
from unetpp_monai.io import case_name
from unetpp_monai.workflows.label_pairs import read_label_map
from unetpp_monai.workflows.preview import write_preview

CURVES = {"train_loss": "loss per iteration, mean of 50", "train_mean_dice": "Dice, augmented training crops",
          "val_mean_dice": "Dice, validation cases"}  # fmt: skip
SMOOTHING = 50  # iterations that the loss is averaged over


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    curves = kinds.add_parser("curves")
    curves.add_argument("run", type=Path)
    curves.set_defaults(draw=lambda options: draw_curves(options.run, options.output))
    worst = kinds.add_parser("worst")
    for name in ("predictions", "references", "images"):
        worst.add_argument(name, type=Path)
    worst.add_argument("--bundle", type=Path, default=Path("hippocampus"))
    worst.add_argument("--count", type=int, default=3)
    worst.add_argument("--reference_values", type=int, nargs="*", default=[], help="of the labels 0, 1, ...")
    worst.set_defaults(draw=draw_worst)
    for kind in (curves, worst):
        kind.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.draw(options)


def draw_curves(run: Path, output: Path) -> None:
    """Draw the scalars of a run's event files, one panel each."""
    import numpy as np
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, dice = figure.subplots(1, 2)
    for tag, title in CURVES.items():
        if tag not in events.Tags()["scalars"]:  # a training on all cases has no validation
            continue
        points = np.array([(event.step, event.value) for event in events.Scalars(tag)])
        if tag == "train_loss":
            count = len(points) // SMOOTHING * SMOOTHING
            points = points[:count].reshape(-1, SMOOTHING, 2).mean(1)
        (loss if tag == "train_loss" else dice).plot(*points.T, marker=".", label=title)  # one validation is a point
    loss.set(xlabel="iteration", title=CURVES["train_loss"])
    dice.set(xlabel="epoch", ylim=(0.8, 0.92))
    dice.legend(loc="lower right")
    figure.savefig(output, dpi=110)


def draw_worst(options: argparse.Namespace) -> None:
    """Draw the cases with the lowest Dice into a folder, and print their names."""
    bundle = read_bundle(options.bundle)
    names = {label.index: label.name for label in bundle.labels}
    values = options.reference_values
    report = evaluate(options.predictions, options.references, labels=names, partial=True, reference_values=values)
    folders = (options.images, options.predictions, options.references)
    images, predictions, references = (
        {case_name(case).removesuffix("_seg"): case for case in find_cases(folder)} for folder in folders
    )
    options.output.mkdir(parents=True, exist_ok=True)
    for case, dice in report.worst(options.count):
        found, expected = read_label_map(predictions[case], names, ()), read_label_map(references[case], names, values)
        path = options.output / f"{case}.png"
        write_preview(read_volume(images[case]), found, bundle.labels, path, reference=expected)
        print(f"{case}: mean Dice {dice:.3f}, {path}")


if __name__ == "__main__":
    main()
