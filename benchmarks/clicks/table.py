"""Table and plot of what was measured, of all cases that every contender has."""

import json
from pathlib import Path

import numpy as np

from unetpp_monai.words import counted

SHOWN = (0, 1, 3, 5, 10)  # clicks
CASES = "cases"  # folder of what was measured, by case


def write_table(folder: Path) -> None:
    """Write table.json, table.md and clicks.png, and print the table."""
    cases = [json.loads(path.read_text()) for path in sorted((folder / CASES).glob("*.json"))]
    names = list(dict.fromkeys(name for case in cases for name in case))
    cases = [case for case in cases if set(names) <= set(case)]
    if not cases:
        raise SystemExit(f"{folder / CASES} must hold cases that were measured, got none that all contenders have")
    most = min(len(rows) for case in cases for rows in case.values()) - 1
    shown = [clicks for clicks in SHOWN if clicks <= most]
    rows, curves = [], {}
    for name in names:
        dice = np.array([[row[0] for row in case[name]] for case in cases])
        far = np.array([[np.nan if row[1] is None else row[1] for row in case[name]] for case in cases], float)
        seconds = np.array([[row[2] for row in case[name]][1:] for case in cases])
        curves[name] = dice.mean(0)
        row: dict[str, str | float] = {"": name}
        row |= {f"Dice {clicks}": round(float(dice[:, clicks].mean()), 4) for clicks in shown}
        row |= {f"HD95 {clicks}, mm": round(float(np.nanmean(far[:, clicks])), 2) for clicks in shown}
        if seconds.size:
            row |= {f"s, p{share}": round(float(np.percentile(seconds, share)), 3) for share in (50, 95)}
        rows.append(row)
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in rows]
    head = f"{counted(len(cases), 'case')}; the number behind Dice and HD95 is that of clicks."
    text = "\n".join([head, "", *lines, ""])
    (folder / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "table.md").write_text(text)
    print(text)
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
