"""Make the network's figure and the table of depths from the task's numbers: `python docs/figures.py` rewrites both.

The figure is docs/unetpp.svg; the table stands in README.md, docs/evaluate.md and the task's card.
"""

import json
import re
from pathlib import Path

from unetpp_monai import UNetPlusPlus

ROOT = Path(__file__).resolve().parent.parent
TASK = ROOT / "configs" / "hippocampus"
COLOURS = ("#4c78a8", "#2a9d8f", "#e9a03b", "#d8654f", "#8a6fb0")  # of the depths, shallowest first
STEP, RADIUS, MARGIN = 110, 22, 50  # pixels
STYLE = "font-family='system-ui, sans-serif' font-size='13'"


def network_svg(features: list[int], depths: dict[str, dict[str, float]]) -> str:
    """Return the grid of nodes x_i_j, each in the colour of the depth that needs it first."""
    last = len(features) - 1
    place = {
        (i, j): (MARGIN + 40 + (i + 2 * j) * STEP // 2, MARGIN + i * STEP * 3 // 4)
        for i in range(last + 1)
        for j in range(last + 1 - i)
    }
    width, height = place[0, last][0] + MARGIN + 290, place[last, 0][1] + MARGIN
    parts = [f"<rect width='{width}' height='{height}' fill='#ffffff'/>"]
    for i, j in place:
        targets = [(i, j + 1), (i + 1, 0)] if j == 0 else [(i, j + 1)]
        targets += [(i - 1, j + 1)] if i else []
        parts += [_line(place[i, j], place[t]) for t in targets if t in place]
    for (i, j), (x, y) in place.items():
        parts.append(f"<circle cx='{x}' cy='{y}' r='{RADIUS}' fill='{COLOURS[max(i + j - 1, 0)]}'/>")
        parts.append(f"<text x='{x}' y='{y + 5}' text-anchor='middle' fill='#ffffff' {STYLE}>{i},{j}</text>")
    parts += [
        f"<text x='12' y='{place[i, 0][1] + 5}' fill='#555555' {STYLE}>{channels}</text>"
        for i, channels in enumerate(features)
    ]
    for depth in range(1, last + 1):
        text, y = _result(depth, depths), place[0, 0][1] + (depth - 1) * 26 + 60
        parts.append(f"<circle cx='{width - 285}' cy='{y - 5}' r='8' fill='{COLOURS[depth - 1]}'/>")
        parts.append(f"<text x='{width - 270}' y='{y}' fill='#222222' {STYLE}>{text}</text>")
    title = f"UNet++ of {last + 1} levels: nodes by the depth that needs them first"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
    return "\n".join([f"{head} role='img'>", f"<title>{title}</title>", *parts, "</svg>"]) + "\n"


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    return f"<line x1='{start[0]}' y1='{start[1]}' x2='{end[0]}' y2='{end[1]}' stroke='#b5b5b5' stroke-width='2'/>"


def _result(depth: int, depths: dict[str, dict[str, float]]) -> str:
    row = depths[str(depth)]
    return (
        f"depth {depth}: Dice {row['Dice anterior']:.3f} / {row['Dice posterior']:.3f}, time {row['relative time']:.2f}"
    )


def depth_table(features: list[int], depths: dict[str, dict[str, float]], out_channels: int) -> str:
    """Return the table of what each depth costs and gives."""
    network = UNetPlusPlus(3, 1, out_channels, features)
    rows = ["| depth | parameters | Dice anterior | Dice posterior | time, full depth = 1 |", "|---|---|---|---|---|"]
    for depth, row in depths.items():
        size = "as needed" if depth == "auto" else f"{_parameters(network.prune(int(depth))):,}"
        dice = f"{row['Dice anterior']:.3f} | {row['Dice posterior']:.3f}"
        rows.append(f"| {depth} | {size} | {dice} | {row['relative time']:.2f} |")
    return "\n".join(rows) + "\n"


def _parameters(network: UNetPlusPlus) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def made() -> dict[Path, str]:
    """Return what the committed numbers make of each file."""
    task = json.loads((TASK / "task.json").read_text())
    depths = json.loads((TASK / "metadata.json").read_text())["depths"]
    table = depth_table(task["features"], depths, task["out_channels"])
    texts = {ROOT / "docs" / "unetpp.svg": network_svg(task["features"], depths)}
    for path in (ROOT / "README.md", ROOT / "docs" / "evaluate.md", TASK / "docs" / "README.md"):
        texts[path] = re.sub(rf"{re.escape(table.splitlines()[0])}\n(\|.*\n)*", table, path.read_text())
    return texts


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text)
