"""Draw the curves of a training as SVG: loss, and Dice of each depth."""

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 56, 110, 20, 44  # of the picture and its margins, pixels
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # loss, then depth 1, 2, ...
TICKS = 5


def curve_svg(rows: Sequence[Mapping[str, Any]], epochs: int) -> str:
    """Draw the history of a training.

    Args:
        rows: of `History`: epoch, loss, and dice_per_depth of validated epochs.
        epochs: of the whole training.
    """
    losses = [(row["epoch"], row["loss"]) for row in rows]
    highest = max((loss for _, loss in losses), default=1.0) or 1.0
    validated = [row for row in rows if row.get("dice_per_depth")]
    depths = max((len(row["dice_per_depth"]) for row in validated), default=0)
    curves = [("loss", highest, losses)]
    for depth in range(depths):
        points = [(row["epoch"], row["dice_per_depth"][depth]) for row in validated]
        curves.append((f"Dice d{depth + 1}", 1.0, points))
    parts = _axes(epochs, highest)
    for number, (name, top, points) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        places = [(_x(epoch, epochs), _y(max(value, 0.0) / top)) for epoch, value in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in places if len(places) < 60]
        height = TOP + 14 + 18 * number
        parts.append(f'<rect x="{WIDTH - RIGHT + 48}" y="{height - 8}" width="10" height="3" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 62, height - 3, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _axes(epochs: int, highest: float) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        share = tick / TICKS
        y = _y(share)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{highest * share:.3g}", "end"))
        parts.append(_text(WIDTH - RIGHT + 6, y + 4, f"{share:.1f}", "start"))
    for epoch in sorted({round(epochs * tick / TICKS) for tick in range(TICKS + 1)}):
        parts.append(_text(_x(epoch, epochs), HEIGHT - BOTTOM + 16, str(epoch), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "epoch", "middle"))
    parts.append(_text(LEFT - 6, TOP - 8, "loss", "end"))
    parts.append(_text(WIDTH - RIGHT + 6, TOP - 8, "Dice", "start"))
    return parts


def _x(epoch: float, epochs: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * epoch / max(epochs, 1)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
