"""UNet++ beside nnU-Net itself: `python -m benchmarks.nnunet DATASET -o OUT --nnunet_python PYTHON [--minutes 15 45]`.

Both train on the same cases of a fold for the same minutes, each as its own planner says for the same memory; the
fold's other cases judge both by our `evaluate`. PYTHON is an interpreter with nnunetv2. What is complete in OUT is not
repeated, and what was interrupted goes on. `--clock cpu --threads 1` counts processor time divided by the cores instead
of the wall's, for a machine that does other work too: threads that wait for each other would count. Equal minutes on
few cores say nothing about convergence.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.nnunet.data import CONFIGURATIONS, DATASET, write_raw
from unetpp_monai.io import listed_folds
from unetpp_monai.workflows.cross_validation import CrossValidation, choose_components, with_components
from unetpp_monai.workflows.evaluate import evaluate, summarise, write_report
from unetpp_monai.workflows.validation import read_validation

HERE = Path(__file__).parent
TRAINER, PLANS = "nnUNetTrainerMinutes", "nnUNetPlans"
COSTS = {"wall": "wall, min", "cpu": "processors, min"}
Options = argparse.Namespace


def main() -> None:
    """Do what is not done, and print the table."""
    options = parse()
    task = options.output / "task"
    if not (task / "task.json").exists():
        run([sys.executable, "-m", "unetpp_monai", "plan", options.dataset, "-o", task, *options.plan.split()])
    folds = listed_folds(task / "cases.json", options.dataset)
    contenders = [name for name in options.contenders if name != "ours"]
    if contenders:
        prepare(options, task, folds)
    for minutes in options.minutes:
        for name in options.contenders:
            folder = options.output / f"fold{options.fold}" / f"{minutes}min" / name
            if not (folder / "evaluation.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                if name == "ours":
                    ours(options, minutes, folder)
                else:
                    nnunet(options, minutes, folder, name)
                    judge(options, folder)
    write_table(options)


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--nnunet_python", type=Path, default=Path(sys.executable))
    parser.add_argument("--minutes", type=int, nargs="+", default=[15])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--contenders", nargs="+", default=["ours", *CONFIGURATIONS], help="ours, 2d, 3d_fullres")
    parser.add_argument("--memory", type=float, default=3, help="GiB that both plan for")
    parser.add_argument("--plan", default="", help="further options of `unetpp plan`, in one text")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    options.dataset = options.dataset.resolve()
    options.output = options.output.resolve()
    options.plan = f"--memory {options.memory:g}GiB {options.plan}"
    return options


def environment(options: Options, minutes: int = 0) -> dict[str, str]:
    """What nnU-Net reads from the environment."""
    root = options.output / "nnunet"
    names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": f"results_{minutes}min"}
    return {
        **os.environ,
        **{name: str(root / folder) for name, folder in names.items()},
        "MINUTES": str(minutes),
        "CLOCK": options.clock,
        "THREADS": str(options.threads),
        "OMP_NUM_THREADS": str(options.threads),
    }


def prepare(options: Options, task: Path, folds: list[list[dict[str, object]]]) -> None:
    """Hand nnU-Net the same cases, plan and preprocess them, and give it our folds."""
    done = options.output / "nnunet" / "prepared"
    if done.exists():
        return
    env = environment(options)
    splits = write_raw(task, folds, Path(env["nnUNet_raw"]) / DATASET)
    number, memory = DATASET[7:10], f"{options.memory:g}"
    steps = (
        ("nnUNetv2_extract_fingerprint", "-d", number, "-np", "2"),
        ("nnUNetv2_plan_experiment", "-d", number, "-gpu_memory_target", memory, "-overwrite_plans_name", PLANS),
        ("nnUNetv2_preprocess", "-d", number, "-plans_name", PLANS, "-np", "2", "2", "-c", *CONFIGURATIONS),
    )
    for program, *arguments in steps:
        run([options.nnunet_python.parent / program, *arguments], env=env)
    target = Path(env["nnUNet_preprocessed"]) / DATASET / "splits_final.json"
    target.write_text(json.dumps(splits, indent=1) + "\n")
    done.touch()


def nnunet(options: Options, minutes: int, folder: Path, name: str) -> None:
    """Train a configuration of nnU-Net and predict the fold's other cases, as its own commands do."""
    env = environment(options, minutes)
    results = Path(env["nnUNet_results"]) / DATASET / f"{TRAINER}__{PLANS}__{name}" / f"fold_{options.fold}"
    program, number, fold = [options.nnunet_python, HERE / "nnunet_program.py"], DATASET[7:10], str(options.fold)
    if not (results / "checkpoint_final.pth").exists():
        command = [*program, "train", number, name, fold, "-tr", TRAINER, "-p", PLANS]
        going_on = ["--c"] if (results / "checkpoint_latest.pth").exists() else []
        run([*command, "-device", options.device, *going_on], env=env, folder=folder)
    images = Path(env["nnUNet_raw"]) / DATASET / f"imagesVal{options.fold}"
    command = [*program, "predict", "-i", images, "-o", folder / "predictions", "-d", number]
    chosen = ["-c", name, "-f", fold, "-tr", TRAINER, "-p", PLANS, "-device", options.device, "-npp", "1", "-nps", "1"]
    run([*command, *chosen], env=env)
    for path in (folder / "predictions").glob("*.json"):
        path.unlink()


def ours(options: Options, minutes: int, folder: Path) -> None:
    """Train as `unetpp train` does, which validates the fold's other cases at every depth."""
    done = folder / "validation.json"
    if not done.exists():
        command = [HERE / "own.py", options.output / "task", folder, options.fold, minutes]
        run([sys.executable, *command], env=environment(options, minutes), folder=folder)
    fold = read_validation(done)
    whole = CrossValidation({"": fold}, (), fold.unit, fold.labels, fold.depths, fold.largest_component)
    deepest = max(whole.rows)
    found = {f"evaluation_depth{depth}": rows for depth, rows in whole.rows.items()}
    found["evaluation"] = found.pop(f"evaluation_depth{deepest}")
    if kept := choose_components(whole, deepest):  # as `unetpp pack` does
        found["evaluation_largest_component"] = with_components(whole, kept).rows[deepest]
    for name, rows in found.items():
        content = {"summary": [asdict(row) for row in summarise(list(rows))]}
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def judge(options: Options, folder: Path) -> None:
    """Compare the predictions with the references."""
    labels = json.loads((options.output / "nnunet" / "labels.json").read_text())
    references = options.output / "nnunet" / "raw" / DATASET / f"labelsVal{options.fold}"
    names = {index: name for name, index in labels.items() if index}
    write_report(evaluate(folder / "predictions", references, labels=names), folder / "evaluation.json")


def run(command: list[object], env: dict[str, str] | None = None, *, folder: Path | None = None) -> None:
    """Run a command; note what it took in a folder, also where it ended before its time, as a piece of a training."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        subprocess.run([str(part) for part in command], check=True, env=env)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if folder is not None:
            note_cost(folder, (time.perf_counter() - begin) / 60, used / 60 / (os.cpu_count() or 1))


def note_cost(folder: Path, wall: float, cpu: float) -> None:
    """Add minutes by the wall, and of the processors divided by their number, to those of former pieces."""
    path = folder / "cost.json"
    before = json.loads(path.read_text()) if path.exists() else {"wall": 0.0, "cpu": 0.0}
    path.write_text(json.dumps({"wall": before["wall"] + wall, "cpu": before["cpu"] + cpu}) + "\n")


def write_table(options: Options) -> None:
    """Print and write Dice and HD95 of each label, and minutes, of all that is judged."""
    rows = []
    for path in sorted(options.output.glob("fold*/*min/*/evaluation*.json"), key=order):
        report, cost = json.loads(path.read_text()), json.loads(path.with_name("cost.json").read_text())
        found = {(row["label"], row["metric"]): row["mean"] for row in report["summary"]}
        labels = list(dict.fromkeys(label for label, _ in found))
        fold, minutes, name = path.relative_to(options.output).parts[:-1]
        depth = path.stem.removeprefix("evaluation").replace("_depth", ", depth ")
        depth = depth.replace("_largest_component", ", largest component")
        row: dict[str, str | float] = {"fold": fold.removeprefix("fold"), "minutes": minutes.removesuffix("min")}
        row["network"] = name + depth
        row["mean Dice"] = round(sum(found[label, "dice"] for label in labels) / len(labels), 4)
        for metric, shown, digits in (("dice", "Dice", 3), ("hd95", "HD95", 2)):
            for label in labels:
                mean = found[label, metric]
                row[f"{shown} {label}"] = "" if mean is None else round(mean, digits)
        row |= {title: round(cost[key], 1) if key in cost else "" for key, title in COSTS.items()}
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    table += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    print("\n".join(table))
    (options.output / "table.md").write_text("\n".join(table) + "\n")
    (options.output / "table.json").write_text(json.dumps(rows, indent=1) + "\n")


def order(path: Path) -> tuple[str, float, str, str]:
    """Sort by fold, minutes and network; the depths, shallowest first, before full depth."""
    fold, minutes, name = path.parts[-4:-1]
    last = "full" + path.stem.removeprefix("evaluation")  # behind "evaluation_depth1"
    return fold, float(minutes.removesuffix("min")), name, path.stem if "_depth" in path.stem else last


if __name__ == "__main__":
    main()
