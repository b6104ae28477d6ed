"""`baton runs explain`: why a run went the way it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from orchestrator.cli import options
from orchestrator.cli.output import print_hanging, print_json
from orchestrator.cli.runs import resolve

if TYPE_CHECKING:
    from schemas.events import Event


def explain(
    run: options.Run,
    step: Annotated[str | None, typer.Argument(help="Only the decisions of this step.")] = None,
    json: options.Json = False,
) -> None:
    """Say why a run went the way it went: what was decided in it, what warned, and what was masked."""
    from orchestrator.cli.environment import connected
    from schemas.events import EventKind

    told = (
        EventKind.STEP_DECIDED,
        EventKind.STEP_WARNING,
        EventKind.STEP_MASKED,
        EventKind.STEP_INJECTION,
    )
    with connected() as client:
        events = client.events(resolve(client, run))
    found = [event for event in events if event.kind in told and step in (None, event.path)]
    if json:
        print_json(found)
        return
    if not found:
        typer.echo(
            "Nothing was decided in this run: no router, supervisor or debate was reached, and no loop warned."
        )
    for event in found:
        for line in _lines(event):
            print_hanging(Text.from_markup(line))


def _lines(event: Event) -> list[str]:
    data: dict[str, Any] = event.data
    where = f"[bold]{escape(event.path)}[/]"
    if "message" in data:
        return [f"{where}  [yellow]{escape(data['message'])}[/]"]
    sure = f", confidence {data['confidence']:g}" if "confidence" in data else ""
    lines = [f"{where}  {_way(data)}{sure}: {escape(data['reason'])}"]
    lines += [
        f"    {escape(name)}: {escape(_found(found))}" for name, found in data.get("features", {}).items()
    ]
    rivals = sorted(data.get("alternatives", {}).items(), key=lambda one: -(one[1] or 0))
    if rivals:
        told = (escape(name) if sure is None else f"{escape(name)} {sure:g}" for name, sure in rivals)
        lines.append(f"    alternatives: {', '.join(told)}")
    return lines


def _way(data: dict[str, Any]) -> str:
    """What was decided, and by whom."""
    if data["by"] == "event":
        return f"took the event [bold]{escape(data['choice'])}[/]"
    if data["by"] == "step":
        return f"decided for [bold]{escape(data['choice'])}[/]"
    return f"{data.get('verb', 'went to')} [bold]{escape(data['choice'])}[/] by {escape(data['by'])}"


def _found(found: Any) -> str:
    match found:
        case True:
            return "holds"
        case False | []:
            return "does not hold"
        case list():
            return f"found {', '.join(map(str, found))}"
    return str(found)
