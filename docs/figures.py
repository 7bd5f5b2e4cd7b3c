"""Make tables and charts of all documents from committed numbers: `python docs/figures.py` rewrites them.

Numbers are those of the tasks' metadata, and of `benchmarks/results/NAME.json`, which hold what a command printed. A
page shows one after the line `<!-- table: NAME -->`. `python docs/figures.py take NAME OUT/table.json [COMMAND]` puts
the numbers of a new run into such a file, and its command, if that differs from the last one.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from unetpp_monai import UNetPlusPlus

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # scripts beside this file are no package

from charts import Point, chart  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("docs/*.md", "configs/*/docs/*.md")
MARK = re.compile(r"^<!-- table: (\w+) -->\n\n(?:\|.*\n)*", re.MULTILINE)
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
    rows = [
        "| depth | parameters | Dice anterior | Dice posterior | time in PyTorch, full depth = 1 |",
        "|---|---|---|---|---|",
    ]
    for depth, row in depths.items():
        size = "as needed" if depth == "auto" else f"{_parameters(network.prune(int(depth))):,}"
        dice = f"{row['Dice anterior']:.3f} | {row['Dice posterior']:.3f}"
        rows.append(f"| {depth} | {size} | {dice} | {row['relative time']:.2f} |")
    return "\n".join(rows) + "\n"


def _parameters(network: UNetPlusPlus) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def result(name: str) -> list[dict[str, Any]]:
    """Return the rows of a committed result."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def result_table(name: str) -> str:
    """Return a committed result as a Markdown table; all numbers of a column have the same decimals."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    columns, rows = found["columns"], found["rows"]
    decimals = [
        max((len(repr(row[at]).partition(".")[2]) for row in rows if isinstance(row[at], float)), default=0)
        for at in range(len(columns))
    ]
    lines = [columns, ["---"] * len(columns)]
    lines += [[_shown(value, digits) for value, digits in zip(row, decimals, strict=True)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: Any, decimals: int) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {entry}' for key, entry in value.items())}}}"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def with_tables(text: str) -> str:
    """Return a page with the tables that its marks name."""
    return MARK.sub(lambda mark: f"<!-- table: {mark[1]} -->\n\n{result_table(mark[1])}", text)


def speed_chart(depths: dict[str, dict[str, float]]) -> str:
    """Return Dice over seconds of a hippocampus crop."""
    lines: dict[str, list[Point]] = {}
    marks = {}
    for row in result("speed_crop"):
        kind, *rest = row["contender"].split(":")
        depth = rest[1].replace("full", "3") if kind == "ours" else ""
        if kind != "ours":
            marks[rest[0] if rest else "nnU-Net"] = row["seconds"]
        elif not rest[2:] and depth != "auto":  # Dice is float32's
            dice = (depths[depth]["Dice anterior"] + depths[depth]["Dice posterior"]) / 2
            name = {"eager": "PyTorch", "openvino": "OpenVINO"}[rest[0]]
            lines.setdefault(f"ours, {name}", []).append((row["seconds"], dice, depth, 0.0))
    marks = {" and ".join(name for name in marks if marks[name] == x): x for x in dict.fromkeys(marks.values())}
    limits, ticks = ((0.0, 1.2), (0.87, 0.89)), ([0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.87, 0.875, 0.88, 0.885, 0.89])
    return chart(
        lines, ("seconds, file to file, 2 CPU cores", "mean Dice of depths 1 to 3, fold 0"), limits, ticks, marks=marks
    )


def annotation_chart() -> str:
    """Return Dice over the number of labelled cases."""
    lines: dict[str, list[Point]] = {"least certain": [], "random": []}
    for row in result("annotation_dice"):
        dice, spread = map(float, row["mean of both labels"].split(" ± "))
        for name in lines if row["strategy"] == "common start" else [row["strategy"]]:
            lines[name].append((row["labelled"], dice, "", spread))
    limits, ticks = ((3.5, 36.0), (0.75, 0.83)), ([4, 8, 16, 32], [0.76, 0.78, 0.8, 0.82])
    return chart(lines, ("labelled cases", "mean Dice, mean and deviation of 3 seeds"), limits, ticks, log=True)


def nuclei_chart() -> str:
    """Return IoU over seconds of the networks in the article's setting."""
    lines: dict[str, list[Point]] = {}
    for row in result("nuclei_networks"):
        first = "a head at every depth" in row["network"] or len(row["network"]) == 2
        name = "UNet++, a head at every depth" if first else row["network"]
        label = (re.findall(r"L\d", row["network"]) or [""])[0]
        lines.setdefault(name, []).append((row["seconds"], row["IoU"], label, 0.0))
    limits, ticks = ((0.0, 0.06), (0.82, 0.835)), ([0, 0.01, 0.02, 0.03, 0.04, 0.05], [0.82, 0.825, 0.83, 0.835])
    return chart(lines, ("seconds, one window of 96 x 96", "IoU"), limits, ticks)


def made() -> dict[Path, str]:
    """Return what the committed numbers make of each file."""
    task = json.loads((TASK / "task.json").read_text())
    depths = json.loads((TASK / "metadata.json").read_text())["depths"]
    table = depth_table(task["features"], depths, task["out_channels"])
    docs = ROOT / "docs"
    texts = {docs / "unetpp.svg": network_svg(task["features"], depths), docs / "speed.svg": speed_chart(depths)}
    texts |= {docs / "annotation.svg": annotation_chart(), docs / "depths_nuclei.svg": nuclei_chart()}
    for path in (path for place in PAGES for path in ROOT.glob(place)):
        if "<!-- table: " in (text := path.read_text()):
            texts[path] = with_tables(text)
    for path in (ROOT / "README.md", docs / "evaluate.md", TASK / "docs" / "README.md"):
        text = texts.get(path, path.read_text())
        texts[path] = re.sub(rf"{re.escape(table.splitlines()[0])}\n(\|.*\n)*", table, text)
    return texts


def take(name: str, table: Path, command: str = "") -> None:
    """Put the rows that a benchmark left as `table.json` into a committed result; without a command, its own stays."""
    path, rows = RESULTS / f"{name}.json", json.loads(table.read_text())
    found = json.loads(path.read_text()) if path.exists() else {"command": ""}
    found["command"] = command or found["command"]
    found |= {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}
    lines = ",\n".join(f"        {json.dumps(row, ensure_ascii=False)}" for row in found["rows"])
    head = [f"    {json.dumps(key)}: {json.dumps(found[key], ensure_ascii=False)}," for key in ("command", "columns")]
    path.write_text("\n".join(["{", *head, f'    "rows": [\n{lines}\n    ]', "}"]) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["take"]:
        take(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:5])
    for path, text in made().items():
        path.write_text(text)
