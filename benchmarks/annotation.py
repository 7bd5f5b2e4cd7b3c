"""Which case to annotate next: `python -m benchmarks.annotation --dataset_dir DIR -o OUT --steps N [--table] ...`.

A few random cases are labelled, a network is trained on them, more cases are added, and so on: those that the heads
disagree most about (what the annotation server's least-certain strategy does) or the next of a random order. Every
round trains anew, from the same initial weights and for as many steps; a fold that no round sees is the measure. A
round that is complete in OUT is not repeated.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import parsed
from benchmarks.fold import TASK, fold_cases
from unetpp_monai import Segmenter, read_bundle, read_volume
from unetpp_monai.annotation.scores import Score, annotation_order
from unetpp_monai.files import complete_file
from unetpp_monai.io import case_name
from unetpp_monai.workflows.metrics import mean_dice

STRATEGIES = ("least_certain", "random")
NETWORK = "unetpp"  # of benchmarks/networks
FOLD = 0  # held out
FIRST = 8  # least certain cases whose Dice is given
EPOCH = 10  # steps of an epoch, after which the learning rate changes; passes over the cases would differ in length
Case = dict[str, str]  # "image" and "label", paths


def main() -> None:
    """Run what is not done, or print the tables of what is."""
    options = parse()
    if not options.table:
        check_settings(options)
        for count, seed, strategy in product(options.labelled, options.seeds, STRATEGIES):
            if not place(options, seed, strategy, count).exists():
                run_round(options, seed, strategy, count)
    write_table(options)


def parse() -> argparse.Namespace:
    """Read the command line; what is not known here replaces values of the bundle's configs, as in `compare`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the order and the training")
    parser.add_argument("--labelled", nargs="+", type=int, default=[8, 16, 32], help="cases per round, ascending")
    parser.add_argument("--steps", type=int, default=150, help=f"of every training, a multiple of {EPOCH}")
    parser.add_argument("--precision", default="float32", help="of segmenting; bfloat16 is faster where the CPU has it")
    parser.add_argument("--table", action="store_true", help="only write table and plot of what OUT holds")
    options, options.overrides = parser.parse_known_args()
    options.task = TASK
    if options.steps % EPOCH or any(count >= after for count, after in pairwise(options.labelled)):
        parser.error(f"--steps must be a multiple of {EPOCH} and --labelled ascend")
    return options


def check_settings(options: argparse.Namespace) -> None:
    """Stop if OUT holds rounds of other settings."""
    settings = {name: getattr(options, name) for name in ("labelled", "steps", "precision", "overrides")}
    path = options.output / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{options.output} must hold rounds of these settings, see {path}; name another folder")
    options.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n")


def place(options: argparse.Namespace, seed: int, strategy: str, count: int) -> Path:
    """File of a round; the first one is common to the strategies."""
    return options.output / f"seed{seed}_{'start' if count == options.labelled[0] else strategy}_{count}.json"


def run_round(options: argparse.Namespace, seed: int, strategy: str, count: int) -> None:
    """Choose the cases, train, judge on the fold, and score what is unlabelled if the next round wants it."""
    start = time.perf_counter()
    held_out, pool = divide(options)
    chosen = choose(options, pool, seed, strategy, count)
    unlabelled = {name: pool[name] for name in pool if name not in chosen}
    first, last = (count == options.labelled[index] for index in (0, -1))
    scored = unlabelled if not last and (first or strategy == "least_certain") else {}
    with tempfile.TemporaryDirectory() as folder:
        train(options, [pool[name] for name in chosen], seed, Path(folder))
        trained = time.perf_counter()
        segmenter = Segmenter.from_bundle(folder, device="cpu", runtime="eager", precision=options.precision)
        result = {
            "labelled": chosen,
            "held_out": segment(segmenter, held_out),
            "pool": segment(segmenter, scored),
            "seconds": {"training": trained - start, "segmenting": time.perf_counter() - trained},
        }
    path = place(options, seed, strategy, count)
    with complete_file(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{path.stem}: {dice(result):.4f}, {time.perf_counter() - start:.0f} s", flush=True)


def divide(options: argparse.Namespace) -> tuple[dict[str, Case], dict[str, Case]]:
    """Name -> case of the held-out fold, and of all others."""
    count = parsed(options, NETWORK)["num_folds"]
    folds = [fold_cases(fold, str(options.dataset_dir)) for fold in range(count)]
    named = [{case_name(Path(case["image"])): case for case in fold} for fold in folds]
    held_out = named.pop(FOLD)
    return held_out, dict(sorted(item for fold in named for item in fold.items()))


def choose(options: argparse.Namespace, pool: dict[str, Case], seed: int, strategy: str, count: int) -> list[str]:
    """Names of the labelled cases: of the round before and, by the strategy, those that are added."""
    order = np.random.default_rng(seed).permutation(sorted(pool)).tolist()
    index = options.labelled.index(count)
    if index == 0 or strategy == "random":
        return order[:count]
    before = json.loads(place(options, seed, strategy, options.labelled[index - 1]).read_text())
    scores = {name: Score(found["score"], name, "", "full") for name, found in before["pool"].items()}
    ranked = sorted(scores, key=lambda name: annotation_order(scores[name]))
    return [*before["labelled"], *ranked[: count - len(before["labelled"])]]


def train(options: argparse.Namespace, cases: list[Case], seed: int, folder: Path) -> None:
    """Train as the bundle does on all its cases, for a number of steps; leaves a bundle in the folder."""
    parser = parsed(options, NETWORK, fold=1)  # beyond the folds: nothing is held out, the last weights are kept
    parser.update({
        "folds": [cases],
        "num_folds": 1,
        "seed": seed,
        "max_epochs": options.steps // EPOCH,
        "train#trainer#epoch_length": EPOCH,
        "device": "$torch.device('cpu')",
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(folder),
        "initialize": ["$monai.utils.set_determinism(seed=@seed)"],
        "train#handlers": [handler for handler in parser["train#handlers"] if "Stats" not in handler["_target_"]],
    })  # fmt: skip
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    (folder / "configs").mkdir()
    for name in ("inference.json", "metadata.json"):
        config = json.loads((read_bundle(TASK).root / "configs" / name).read_text())
        replaced = {key.removeprefix("--"): json.loads(value) for key, value in pairs(options.overrides)}
        config.update({key: value for key, value in replaced.items() if key in config})
        (folder / "configs" / name).write_text(json.dumps(config))


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """Names and values that take turns."""
    return list(zip(words[::2], words[1::2], strict=True))


def segment(segmenter: Segmenter, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Score (null = nothing found) and Dice by label of every case."""
    found = {}
    for name, case in cases.items():
        result = segmenter(read_volume(case["image"]), depth="full", uncertainty=True)
        reference = read_volume(case["label"], labels=True)
        values = {
            label.name: mean_dice(result.labels.array, reference.array, [label.index])
            for label in segmenter.bundle.labels
        }
        found[name] = {"score": result.score, "dice": values}
    return found


def dice(result: dict[str, Any], label: str | None = None, part: str = "held_out") -> float:
    """Dice of a round, mean over cases and, if none is named, labels."""
    cases = [case["dice"] for case in result[part].values()]
    return statistics.mean(case[name] for case in cases for name in ([label] if label else case))


def write_table(options: argparse.Namespace) -> None:
    """Print `table.md`, and draw `annotation.png`."""
    counts = [
        count
        for count in options.labelled
        if all(place(options, *key, count).exists() for key in product(options.seeds, STRATEGIES))
    ]
    if not counts:
        raise SystemExit(f"{options.output} must hold every seed of a round, found none; run it without --table first")
    rounds = {
        strategy: [
            [json.loads(place(options, seed, strategy, count).read_text()) for seed in options.seeds]
            for count in counts
        ]
        for strategy in STRATEGIES
    }
    lines = [*accuracy_lines(counts, rounds), "", *ranking_lines(counts, rounds["least_certain"])]
    print("\n".join(lines))
    (options.output / "table.md").write_text("\n".join(lines) + "\n")
    plot(options.output / "annotation.png", counts, rounds)


def accuracy_lines(counts: list[int], rounds: dict[str, list[list[dict[str, Any]]]]) -> list[str]:
    """Dice of the held-out fold: one line per number of labelled cases and strategy."""
    labels = list(next(iter(rounds["random"][0][0]["held_out"].values()))["dice"])
    titles = ["labelled", "strategy", *labels, "mean of both labels", "least certain minus random, by seed", "mean"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for index, count in enumerate(counts):
        both = {strategy: [dice(result) for result in found[index]] for strategy, found in rounds.items()}
        gains = [ours - other for ours, other in zip(both["least_certain"], both["random"], strict=True)]
        paired = [", ".join(f"{gain:+.4f}" for gain in gains), spread(gains, sign="+")]
        for strategy in STRATEGIES if index else STRATEGIES[1:]:
            cells = [spread([dice(result, label) for result in rounds[strategy][index]]) for label in labels]
            name = strategy.replace("_", " ") if index else "common start"
            last = paired if strategy == "least_certain" else ["", ""]
            lines.append("| " + " | ".join([str(count), name, *cells, spread(both[strategy]), *last]) + " |")
    return lines


def ranking_lines(counts: list[int], rounds: list[list[dict[str, Any]]]) -> list[str]:
    """What the scores know of the unlabelled cases: one line per round of the least-certain strategy that scored."""
    from scipy.stats import spearmanr

    titles = [
        "labelled",
        "Spearman of score and 1 - Dice",
        "Dice of the unlabelled cases",
        f"Dice of the {FIRST} least certain",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for count, results in zip(counts, rounds, strict=True):
        rows = []
        for pool in (result["pool"] for result in results if result["pool"]):
            values = [statistics.mean(case["dice"].values()) for case in pool.values()]
            scores = [1.0 if case["score"] is None else case["score"] for case in pool.values()]  # 1: nothing found
            rank = float(spearmanr(scores, [1 - value for value in values]).statistic)
            first = np.argsort(scores)[::-1][:FIRST]
            rows.append((rank, statistics.mean(values), float(np.mean(np.array(values)[first]))))
        if rows:
            cells = [spread(list(column)) for column in zip(*rows, strict=True)]
            lines.append("| " + " | ".join([str(count), *cells]) + " |")
    return lines


def spread(values: list[float], sign: str = "") -> str:
    """Mean ± standard deviation over seeds."""
    text = f"{statistics.mean(values):{sign}.4f}"
    return f"{text} ± {statistics.stdev(values):.4f}" if len(values) > 1 else text


def plot(path: Path, counts: list[int], rounds: dict[str, list[list[dict[str, Any]]]]) -> None:
    """Draw Dice over the number of labelled cases: seeds thin, their mean thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for strategy, colour in zip(STRATEGIES, ("tab:blue", "tab:orange"), strict=True):
        values = np.array([[dice(result) for result in found] for found in rounds[strategy]])  # rounds, seeds
        axes.plot(counts, values, color=colour, linewidth=0.7, alpha=0.5)
        axes.plot(counts, values.mean(1), "o-", color=colour, label=strategy.replace("_", " "))
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(xlabel="labelled cases", ylabel="mean Dice, held-out fold")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
