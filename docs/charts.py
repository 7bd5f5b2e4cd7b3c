"""Draw a small chart as SVG: the same numbers give the same text, so that a test can compare it."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

WIDTH, HEIGHT = 640, 380  # pixels
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
COLOURS = ("#2a6fb0", "#d8654f", "#2a9d8f", "#8a6fb0")
STYLE = "font-family='system-ui, sans-serif' font-size='13'"
Point = tuple[float, float, str, float]  # x, y, what stands beside it, half a bar


def chart(
    lines: Mapping[str, Sequence[Point]],
    axes: tuple[str, str],
    limits: tuple[tuple[float, float], tuple[float, float]],
    ticks: tuple[Sequence[float], Sequence[float]],
    *,
    marks: Mapping[str, float] | None = None,
    log: bool = False,
) -> str:
    """Return a chart.

    Args:
        lines: name -> points that are joined; one alone is a point.
        axes: what x and y are.
        limits: lowest and highest of x, of y.
        ticks: of x, of y.
        marks: name -> x of an upright line.
        log: logarithmic x.
    """
    x_of = _place(*limits[0], LEFT, WIDTH - RIGHT, log=log)
    y_of = _place(*limits[1], HEIGHT - BOTTOM, TOP)
    parts = [f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>"]
    for x in ticks[0]:
        parts += [_line(x_of(x), TOP, x_of(x), HEIGHT - BOTTOM), _text(x_of(x), HEIGHT - BOTTOM + 18, f"{x:g}")]
    for y in ticks[1]:
        parts += [_line(LEFT, y_of(y), WIDTH - RIGHT, y_of(y)), _text(LEFT - 8, y_of(y) + 4, f"{y:g}", "end")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, axes[0]))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(16, middle, axes[1], turned=True))
    for name, x in (marks or {}).items():
        parts.append(_line(x_of(x), TOP, x_of(x), HEIGHT - BOTTOM, "#777777", "4 3"))
        parts.append(_text(x_of(x) + 14, HEIGHT - BOTTOM - 8, name, "start", turned=True))
    bars = any(half for points in lines.values() for *_, half in points)
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_of(x) + 3 * number * bars, y_of(y)) for x, y, *_ in points]  # bars beside each other
        parts += [_line(*first, *second, colour) for first, second in pairwise(places)]
        for (x, y), (_, value, label, half) in zip(places, points, strict=True):
            parts += [_line(x, y_of(value - half), x, y_of(value + half), colour)] if half else []
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour}'/>")
            parts += [_text(x + 7, y + 16, label, "start")] if label else []
        y = HEIGHT - BOTTOM - 16 - 20 * (len(lines) - 1 - number)
        parts.append(f"<circle cx='{WIDTH - RIGHT - 250}' cy='{y - 4}' r='5' fill='{colour}'/>")
        parts.append(_text(WIDTH - RIGHT - 238, y, name, "start"))
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
    return "\n".join([f"{head} role='img'>", f"<title>{axes[1]} over {axes[0]}</title>", *parts, "</svg>"]) + "\n"


def _place(low: float, high: float, start: float, end: float, *, log: bool = False) -> Callable[[float], float]:
    scale = math.log if log else float
    return lambda value: start + (scale(value) - scale(low)) / (scale(high) - scale(low)) * (end - start)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#dddddd", dashes: str = "") -> str:
    width = 1 if colour.startswith(("#d", "#7")) and colour not in COLOURS else 2
    dashed = f" stroke-dasharray='{dashes}'" if dashes else ""
    ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {ends} stroke='{colour}' stroke-width='{width}'{dashed}/>"


def _text(x: float, y: float, words: str, anchor: str = "middle", *, turned: bool = False) -> str:
    turn = f" transform='rotate(-90 {x:.1f} {y:.1f})'" if turned else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='#333333' {STYLE}{turn}>{words}</text>"
