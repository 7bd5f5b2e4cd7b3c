"""What the heads' uncertainty is worth: `python -m benchmarks.uncertainty --dataset_dir DIR -o OUT`.

Validation cases only; beside it MC dropout and, with `--ensemble`, several networks. Voxels: does a map find wrong
voxels (AUROC), are probabilities what they say (reliability)? Cases: does a score find the quarter with the lowest Dice
(Spearman, AUROC; AURC = mean risk 1 - Dice when the most certain cases are taken first), and does it find cases that
were made wrong on purpose?
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch
from scipy.stats import spearmanr
from torch.nn.functional import dropout

from benchmarks.fold import TASK
from unetpp_monai import Segmenter, Volume, read_bundle, read_volume
from unetpp_monai.bundle import load_network
from unetpp_monai.inference import UNCERTAINTIES
from unetpp_monai.io.monai_reader import metadata, spatial_array
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.task import read_task
from unetpp_monai.workflows.calibrate import auroc
from unetpp_monai.workflows.metrics import mean_dice

from .fold import fold_cases

PASSES, DROPOUT = 20, 0.1  # of MC dropout, after every node (the networks were trained without)
VOXELS = 5000  # drawn per case for the voxel figures
Maps = dict[str, torch.Tensor]


def main() -> None:
    """Measure and write table.json and reliability.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--task", default=TASK, help="folder of a task, or the name of one in configs/")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--bundle", type=Path, default=Path("hippocampus"))
    parser.add_argument("--weights", type=Path, help="trained without the fold")
    parser.add_argument("--ensemble", type=Path, nargs="+", default=[], help="more weights, trained without the fold")
    parser.add_argument("--other", type=Path, help="an image of another organ, cut to each case's size")
    parser.add_argument("--cases", type=int, help="no more than these")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    segmenter = Segmenter.from_bundle(options.bundle, weights=options.weights, device="cpu", runtime="eager")
    networks = [network_of(options.bundle, weights) for weights in (options.weights, *options.ensemble)]
    indices = [label.index for label in segmenter.bundle.labels]
    cases = fold_cases(options.fold, options.dataset_dir, options.task)[: options.cases]
    values = read_task(options.task).values.get("label_values", [])
    rng = np.random.default_rng(0)
    rows, voxels, clean, wrong = [], [], [], {}
    for case in cases:
        image, reference = read_volume(case["image"]), read_volume(case["label"], labels=True)
        if values:
            found = np.stack([reference.array == value for value in values]).argmax(0)
            reference = Volume(found.astype(np.uint8), reference.affine)
        labels, target, maps = measure(segmenter, networks, image, reference)
        rows.append((mean_dice(labels.numpy(), target.numpy(), indices), maps))
        drawn = rng.choice(target.numel(), min(VOXELS, target.numel()), replace=False)
        error = (labels != target).flatten()[drawn]
        voxels.append({"error": error, **{name: map_.flatten()[drawn] for name, map_ in maps.items()}})
        scores = {name: float(map_[labels > 0].mean()) if (labels > 0).any() else 1.0 for name, map_ in maps.items()}
        rows[-1] = (rows[-1][0], scores)
        clean.append(scores_of(segmenter, image))
        for name, spoilt, truth in made_wrong(image, reference, options.other, rng):
            wrong.setdefault(name, []).append((scores_of(segmenter, spoilt), agreement(segmenter, spoilt, truth)))
    options.output.mkdir(parents=True, exist_ok=True)
    result = {**table(rows, voxels), "made wrong": made_wrong_table(clean, wrong)}
    text = json.dumps({"cases": len(cases), **result}, indent=1)
    print(text)
    (options.output / "table.json").write_text(text + "\n")
    reliability(voxels, options.output / "reliability.png")


def network_of(root: Path | None, weights: Path | None) -> UNetPlusPlus:
    """The network of a bundle with other weights."""
    bundle = read_bundle(root, weights=weights)
    return load_network(bundle, bundle.parser(), torch.device("cpu"))


@torch.inference_mode()
def measure(
    segmenter: Segmenter, networks: list[UNetPlusPlus], image: Volume, reference: Volume
) -> tuple[torch.Tensor, torch.Tensor, Maps]:
    """Labels, reference and maps of uncertainty, all `spatial`, on the network's grid."""
    network, *members = networks
    dims = network.spatial_dims
    prepared = segmenter.prepare(image).data["image"]
    sliding = segmenter.bundle.parser().get_parsed_content("inferer").inferer
    windows = prepared.as_tensor()[None]
    heads = sliding(windows, lambda x: torch.cat(network.heads(x), 1))[0]
    p = heads.reshape(network.depth, network.out_channels, *heads.shape[1:]).softmax(1)
    hooks = [node.register_forward_hook(lambda _, __, x: dropout(x, DROPOUT)) for node in network.nodes.values()]
    torch.manual_seed(0)
    sampled = {"MC dropout": torch.stack([sliding(windows, network)[0].softmax(0) for _ in range(PASSES)])}
    for hook in hooks:
        hook.remove()
    if members:
        others = [sliding(windows, member)[0].softmax(0) for member in members]
        sampled[f"ensemble of {len(members) + 1}"] = torch.stack([p[-1], *others])
    array = torch.from_numpy(np.ascontiguousarray(spatial_array(reference, dims)).astype(np.float32))
    target = ResampleToMatch(mode="nearest")(MetaTensor(array, meta=metadata(reference, dims)), prepared)
    maps = {
        "entropy of the last head": entropy(p[-1]),
        "entropy of the heads' mean": entropy(p.mean(0)),
        "disagreement of the heads": disagreement(p),
        "confidence": p[-1].amax(0),
    }
    for name, passes in sampled.items():
        maps[f"entropy, {name}"] = entropy(passes.mean(0))
        maps[f"disagreement, {name}"] = disagreement(passes)
    return p[-1].argmax(0), torch.as_tensor(target)[0].round().long(), maps


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Entropy of probabilities `(C, *spatial)`."""
    return -torch.special.xlogy(p, p).sum(0)


def disagreement(passes: torch.Tensor) -> torch.Tensor:
    """How much of the entropy of the mean is between passes, `(passes, C, *spatial)`."""
    return entropy(passes.mean(0)) - torch.stack([entropy(p) for p in passes]).mean(0)


def scores_of(segmenter: Segmenter, image: Volume) -> list[float]:
    """The scores that the product gives, one by each measure; 1 if nothing was found."""
    measures = segmenter(image, uncertainty=True).measures
    return [measures.get(name, 1.0) for name in UNCERTAINTIES]


def agreement(segmenter: Segmenter, image: Volume, reference: Volume) -> float:
    """Mean Dice of what is found in a spoilt image."""
    return mean_dice(segmenter(image).labels.array, reference.array, [label.index for label in segmenter.bundle.labels])


def made_wrong(
    image: Volume, reference: Volume, other: Path | None, rng: np.random.Generator
) -> Iterator[tuple[str, Volume, Volume]]:
    """The image spoilt in ways that happen, and what would be right in it."""
    x, affine = image.array.astype(np.float32), image.affine
    yield "noise of 2 sd", Volume(x + rng.normal(0, 2 * x.std(), x.shape).astype(np.float32), affine), reference
    yield "contrast inverted (as T2 is to T1, roughly)", Volume(x.max() - x, affine), reference
    pair = (image, reference)
    yield "second axis mirrored, header not", *(Volume(v.array[:, :, ::-1].copy(), affine) for v in pair)
    if image.shape[2] > 1:
        yield "first and third axis exchanged, header not", *(Volume(v.array.swapaxes(1, 3), affine) for v in pair)
    if other is not None:
        organ = read_volume(other).array
        starts = [(size - n) // 2 for size, n in zip(organ.shape[1:], image.shape, strict=True)]
        box = (slice(None), *(slice(start, start + n) for start, n in zip(starts, image.shape, strict=True)))
        yield "another organ", Volume(organ[box].astype(np.float32), affine), Volume(reference.array * 0, affine)


def table(rows: list[tuple[float, dict[str, float]]], voxels: list[Maps]) -> dict[str, object]:
    """Figures of every map."""
    dice = np.array([row[0] for row in rows])
    worst = dice <= np.quantile(dice, 0.25)
    error = torch.cat([case["error"] for case in voxels]).numpy()
    maps = {}
    for name in [name for name in rows[0][1] if name != "confidence"]:
        scores = np.array([row[1][name] for row in rows])
        risk = np.cumsum(1 - dice[np.argsort(scores)]) / np.arange(1, len(dice) + 1)
        values = torch.cat([case[name] for case in voxels]).numpy()
        some = np.random.default_rng(0).permutation(len(error))[:20000]  # all pairs are compared
        maps[name] = {
            "voxel AUROC": round(auroc(values[some], error[some]), 4),
            "Spearman with 1 - Dice": round(float(spearmanr(scores, 1 - dice).statistic), 3),
            "AUROC worst quarter": round(auroc(scores, worst), 3),
            "AURC": round(float(risk.mean()), 4),
        }
    ideal = np.cumsum(np.sort(1 - dice)) / np.arange(1, len(dice) + 1)
    bounds = {"best": round(float(ideal.mean()), 4), "random": round(float(1 - dice.mean()), 4)}
    return {"mean Dice": round(float(dice.mean()), 4), "AURC bounds": bounds, "maps": maps}


def made_wrong_table(clean: list[list[float]], wrong: dict[str, list[tuple[list[float], float]]]) -> dict[str, object]:
    """Per way: mean Dice and, by each measure, AUROC against the sound cases, and how many lie above 75 % or all."""
    result: dict[str, dict[str, object]] = {}
    for name, entries in wrong.items():
        result[name] = {"mean Dice": round(float(np.mean([dice for _, dice in entries])), 3)}
        spoilt = np.arange(len(clean) + len(entries)) >= len(clean)
        for measure, sound, scores in zip(
            UNCERTAINTIES, np.array(clean).T, np.array([s for s, _ in entries]).T, strict=True
        ):
            result[name][measure] = {
                "AUROC": round(auroc(np.concatenate([sound, scores]), spoilt), 3),
                "flagged at 25 %": round(float((scores >= np.quantile(sound, 0.75)).mean()), 3),
                "above every sound case": round(float((scores > sound.max()).mean()), 3),
            }
    return result


def reliability(voxels: list[Maps], path: Path) -> None:
    """Share of right voxels over the confidence of the last head, where it is not sure anyway."""
    from matplotlib.figure import Figure

    confidence = torch.cat([case["confidence"] for case in voxels]).numpy()
    right = ~torch.cat([case["error"] for case in voxels]).numpy()
    edges = np.linspace(0.3, 1, 15)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, len(edges) - 2)
    x, y, n = (
        np.array([f(bins == b) for b in range(len(edges) - 1) if (bins == b).sum() > 20])
        for f in (lambda m: confidence[m].mean(), lambda m: right[m].mean(), lambda m: m.sum())
    )
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.3, 1], [0.3, 1], "--", color="grey", linewidth=1)
    axes.plot(x, y, "o-")
    axes.set(xlabel="confidence of the last head", ylabel="share of right voxels")
    axes.set_title(f"expected calibration error {np.sum(np.abs(x - y) * n) / n.sum():.4f}", fontsize=9)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
