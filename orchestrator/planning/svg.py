"""The graph of a workflow as an SVG picture.

A workflow is series and parallel parts in frames, so its layout is exact and needs no search for crossings: every
shape knows its size, a series stacks its parts, a frame and a fork stand theirs side by side. So no library is
needed; those that there are want a binary of Graphviz, or know no frames.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from orchestrator.planning.outline import Box, Fork, Form, Frame, Series, Shape, outline
from schemas.workflows import Workflow

_LETTER = 7.4  # the widest average letter of the common sans-serif fonts at 13 px
_LINE = 17.0
_WRAP = 34
_PAD = 12.0
_GAP = 22.0  # between neighbours
_DROP = 34.0  # between one and the next: room for an arrow, and for the name of a way

_STYLE = """
  text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1f2933 }
  .title, .way { font-size: 12px; fill: #52606d }
  .way { paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
  .page { fill: #ffffff }
  .box, .sides { stroke: #3e4c59; stroke-width: 1.2; fill: #ffffff }
  .agent { fill: #e6f1fb; stroke: #2f6fab }
  .choice { fill: #fdf3d8; stroke: #b98309 }
  .person { fill: #fbe7e4; stroke: #b4452f }
  .frame { fill: #9aa5b1; fill-opacity: 0.1; stroke: #9aa5b1; stroke-dasharray: 5 4 }
  .arrow { fill: none; stroke: #52606d; stroke-width: 1.2; marker-end: url(#tip) }
  .asks { stroke-dasharray: 4 4 }
"""


def svg(workflow: Workflow) -> str:
    """The workflow as an SVG document, from top to bottom."""
    whole = _placed(outline(workflow))
    width, height = whole.width + 2 * _PAD, whole.height + 2 * _PAD
    pen = _Pen()
    pen.draw(whole, _PAD, _PAD)
    name = escape(f"{workflow.name}, version {workflow.version}")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}"'
            f' width="{width:.0f}" height="{height:.0f}" role="img">',
            f"<title>{name}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#52606d"/></marker></defs>',
            f'<rect class="page" width="{width:.1f}" height="{height:.1f}"/>',
            *pen.lines,
            "</svg>\n",
        ]
    )


@dataclass(frozen=True)
class _Placed:
    """A shape with its size, and its parts with their places inside."""

    shape: Shape
    width: float
    height: float
    parts: tuple[tuple[float, float, _Placed], ...] = ()


def _placed(shape: Shape) -> _Placed:
    match shape:
        case Box(text=text, form=form):
            lines = _lines(text)
            slant = 2 * _PAD if form in (Form.CHOICE, Form.PERSON) else 0.0
            return _Placed(shape, _width(lines) + 2 * _PAD + slant, len(lines) * _LINE + _PAD)
        case Series(parts=parts):
            return _stacked(shape, [_placed(part) for part in parts])
        case Frame(title=title, inside=inside):
            row = _beside([_placed(part) for part in inside])
            head = len(_lines(title)) * _LINE + _PAD
            wide = max(_row_width(row), _width(_lines(title)))
            shift = (wide - _row_width(row)) / 2
            parts_of = tuple((_PAD + shift + x, head, part) for x, part in row)
            return _Placed(shape, wide + 2 * _PAD, head + _tallest(row) + _PAD, parts_of)
        case Fork(head=head_box, ways=ways, asked=asked):
            return _forked(shape, _placed(head_box), asked, [(name, _placed(way)) for name, way in ways])


def _stacked(shape: Series, parts: Sequence[_Placed]) -> _Placed:
    wide, y = max(part.width for part in parts), 0.0
    placed = []
    for part in parts:
        placed.append(((wide - part.width) / 2, y, part))
        y += part.height + _DROP
    return _Placed(shape, wide, y - _DROP, tuple(placed))


def _forked(shape: Fork, head: _Placed, asked: Box | None, ways: Sequence[tuple[str, _Placed]]) -> _Placed:
    """The choice above its ways, whoever it asks at its right; room for each way's name above it."""
    named = [(max(way.width, len(name) * _LETTER + _PAD), way) for name, way in ways]
    wide = sum(width for width, _ in named) + _GAP * (len(named) - 1)
    beside = _placed(asked) if asked is not None else None
    # As much at the left as at the right, so that the choice stands above the middle of its ways.
    crown = head.width + (2 * (beside.width + 2 * _GAP) if beside is not None else 0.0)
    whole = max(wide, crown)
    top = max(head.height, beside.height if beside is not None else 0.0)
    middle = (whole - head.width) / 2
    placed = [(middle, (top - head.height) / 2, head)]
    if beside is not None:
        placed.append((middle + head.width + 2 * _GAP, (top - beside.height) / 2, beside))
    x = (whole - wide) / 2
    for width, way in named:
        placed.append((x + (width - way.width) / 2, top + 1.6 * _DROP, way))
        x += width + _GAP
    height = top + 1.6 * _DROP + max(way.height for _, way in named)
    return _Placed(shape, whole, height, tuple(placed))


def _beside(parts: Sequence[_Placed]) -> list[tuple[float, _Placed]]:
    x, row = 0.0, []
    for part in parts:
        row.append((x, part))
        x += part.width + _GAP
    return row


def _row_width(row: Sequence[tuple[float, _Placed]]) -> float:
    return row[-1][0] + row[-1][1].width


def _tallest(row: Sequence[tuple[float, _Placed]]) -> float:
    return max(part.height for _, part in row)


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, _WRAP) or [""]


def _width(lines: Sequence[str]) -> float:
    return max(len(line) for line in lines) * _LETTER


_Point = tuple[float, float]


class _Pen:
    """Draws placed shapes; a drawn one answers where it is entered and where it is left."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def draw(self, placed: _Placed, x: float, y: float) -> tuple[_Point, list[_Point]]:
        centre = x + placed.width / 2
        bottom = (centre, y + placed.height)
        match placed.shape:
            case Box() as box:
                self._box(box, x, y, placed)
                return (centre, y), [bottom]
            case Frame(title=title):
                self._rect("frame", x, y, placed.width, placed.height, round_=8)
                self._text(_lines(title), centre, y + _PAD / 2, "title")
                for dx, dy, part in placed.parts:
                    self.draw(part, x + dx, y + dy)
                return (centre, y), [bottom]
            case Series():
                return self._series(placed, x, y)
            case Fork() as fork:
                return self._fork(fork, placed, x, y)

    def _series(self, placed: _Placed, x: float, y: float) -> tuple[_Point, list[_Point]]:
        entry: _Point | None = None
        exits: list[_Point] = []
        for dx, dy, part in placed.parts:
            into, after = self.draw(part, x + dx, y + dy)
            for source in exits:
                self._arrow(source, into)
            entry, exits = entry or into, after
        return entry or (x, y), exits

    def _fork(self, fork: Fork, placed: _Placed, x: float, y: float) -> tuple[_Point, list[_Point]]:
        (dx, dy, head), *rest = placed.parts
        entry, (source,) = self.draw(head, x + dx, y + dy)
        if fork.asked is not None:
            (ax, ay, asked), *rest = rest
            self.draw(asked, x + ax, y + ay)
            level = y + ay + asked.height / 2
            self._arrow((x + dx + head.width, level), (x + ax, level), "asks")
        exits: list[_Point] = []
        for (name, _), (wx, wy, way) in zip(fork.ways, rest, strict=True):
            into, after = self.draw(way, x + wx, y + wy)
            self._arrow(source, into)
            if way.shape != Box(name):  # an agent's way is mostly called like the agent
                self._text([name], into[0], into[1] - _LINE - 8, "way")
            exits += after
        return entry, exits

    def _box(self, box: Box, x: float, y: float, placed: _Placed) -> None:
        wide, high = placed.width, placed.height
        match box.form:
            case Form.CHOICE:
                corners = [(_PAD, 0), (wide - _PAD, 0), (wide, high / 2), (wide - _PAD, high), (_PAD, high)]
                self._polygon(box.form, x, y, [*corners, (0, high / 2)])
            case Form.PERSON:
                self._polygon(box.form, x, y, [(_PAD, 0), (wide, 0), (wide - _PAD, high), (0, high)])
            case Form.AGENT:
                self._rect(f"box {box.form}", x, y, wide, high, round_=3)
            case Form.RUN:
                self._rect(f"box {box.form}", x, y, wide, high, round_=0)
                self._rect("sides", x + 4, y, wide - 8, high, round_=0)
            case Form.END | Form.RESULTS:
                self._rect(f"box {box.form}", x, y, wide, high, round_=high / 2)
        self._text(_lines(box.text), x + wide / 2, y + _PAD / 2)

    def _polygon(self, kind: str, x: float, y: float, corners: Sequence[_Point]) -> None:
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        self.lines.append(f'<polygon class="box {kind}" points="{points}"/>')

    def _rect(self, kind: str, x: float, y: float, wide: float, high: float, round_: float) -> None:
        self.lines.append(
            f'<rect class={quoteattr(kind)} x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
            f' rx="{round_:.1f}"/>'
        )

    def _text(self, lines: Sequence[str], centre: float, top: float, kind: str = "name") -> None:
        for number, line in enumerate(lines, 1):
            baseline = top + number * _LINE - 4
            self.lines.append(
                f'<text class="{kind}" x="{centre:.1f}" y="{baseline:.1f}">{escape(line)}</text>'
            )

    def _arrow(self, start: _Point, end: _Point, kind: str = "") -> None:
        (x, y), (to_x, to_y) = start, end
        if kind:
            path = f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"
        else:
            bend = (y + to_y) / 2
            path = f"M{x:.1f} {y:.1f}C{x:.1f} {bend:.1f} {to_x:.1f} {bend:.1f} {to_x:.1f} {to_y:.1f}"
        self.lines.append(f'<path class="{f"arrow {kind}".strip()}" d="{path}"/>')
