"""The graph of a workflow as a Mermaid flowchart, for Markdown."""

from __future__ import annotations

from itertools import count

from orchestrator.planning.outline import Box, Fork, Form, Frame, Series, Shape, outline
from schemas.workflows import Workflow

_BRACKETS = {
    Form.AGENT: ("[", "]"),
    Form.END: ("([", "])"),
    Form.PERSON: ("[/", "/]"),
    Form.RESULTS: ("((", "))"),
    Form.CHOICE: ("{{", "}}"),
    Form.RUN: ("[[", "]]"),
}


def mermaid(workflow: Workflow) -> str:
    """The workflow as a Mermaid flowchart."""
    chart = _Chart()
    chart.draw(outline(workflow), [], indent=1)
    return "\n".join(chart.lines) + "\n"


class _Chart:
    """Draws one shape after the other; a drawn shape answers with the ids it is left by."""

    def __init__(self) -> None:
        self.lines = ["flowchart TD"]
        self._ids = (f"n{number}" for number in count(1))

    def draw(self, shape: Shape, before: list[str], indent: int) -> list[str]:
        """Draw `shape` after the nodes `before`."""
        match shape:
            case Box():
                box = self._box(shape, indent)
                self._arrows(before, box, indent)
                return [box]
            case Series(parts=parts):
                for part in parts:
                    before = self.draw(part, before, indent)
                return before
            case Frame(title=title, inside=inside):
                frame = next(self._ids)
                self._line(indent, f'subgraph {frame}["{_escape(title)}"]')
                for part in inside:
                    self.draw(part, [], indent + 1)
                self._line(indent, "end")
                self._arrows(before, frame, indent)
                return [frame]
            case Fork(head=head, ways=ways, asked=asked):
                choice = self._box(head, indent)
                self._arrows(before, choice, indent)
                if asked is not None:
                    self._line(indent, f"{choice} -. asks .-> {self._box(asked, indent)}")
                return [end for _, way in ways for end in self.draw(way, [choice], indent)]

    def _box(self, box: Box, indent: int) -> str:
        name = next(self._ids)
        left, right = _BRACKETS[box.form]
        self._line(indent, f'{name}{left}"{_escape(box.text)}"{right}')
        return name

    def _arrows(self, sources: list[str], target: str, indent: int) -> None:
        for source in sources:
            self._line(indent, f"{source} --> {target}")

    def _line(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)


def _escape(text: str) -> str:
    """Text inside a quoted Mermaid label."""
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
