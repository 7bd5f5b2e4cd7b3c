"""Table and plot of what was measured, of all cases that every contender has."""

import json
from pathlib import Path

import numpy as np

from unetpp_monai.words import counted

SHOWN = (0, 1, 3, 5, 10)  # clicks


def write_table(folder: Path) -> None:
    """Write table.md and clicks.png, and print the table."""
    cases = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    names = list(dict.fromkeys(name for case in cases for name in case))
    cases = [case for case in cases if set(names) <= set(case)]
    if not cases:
        raise SystemExit(f"{folder} must hold cases that were measured, got none that all contenders have")
    most = min(len(rows) for case in cases for rows in case.values()) - 1
    shown = [clicks for clicks in SHOWN if clicks <= most]
    head = ["contender", *(f"Dice {clicks}" for clicks in shown), *(f"HD95 {clicks} (mm)" for clicks in shown)]
    lines = [
        f"{counted(len(cases), 'case')}; clicks 0: before the first.",
        "",
        "| " + " | ".join([*head, "s/click p50", "p95"]) + " |",
        "|---" * (len(head) + 2) + "|",
    ]
    curves = {}
    for name in names:
        dice = np.array([[row[0] for row in case[name]] for case in cases])
        far = np.array([[np.nan if row[1] is None else row[1] for row in case[name]] for case in cases], float)
        seconds = np.array([[row[2] for row in case[name]][1:] for case in cases])
        curves[name] = dice.mean(0)
        numbers = [f"{dice[:, clicks].mean():.4f}" for clicks in shown]
        numbers += [f"{np.nanmean(far[:, clicks]):.2f}" for clicks in shown]
        numbers += [f"{np.percentile(seconds, share):.3f}" for share in (50, 95)] if seconds.size else ["", ""]
        lines.append("| " + " | ".join([name, *numbers]) + " |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot(curves, folder / "clicks.png")


def plot(curves: dict[str, np.ndarray], path: Path) -> None:
    """Draw mean Dice over clicks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, curve in curves.items():
        axes.plot(range(len(curve)), curve, marker="o", markersize=3, label=name)
    axes.set_xlabel("clicks")
    axes.set_ylabel("mean Dice")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
