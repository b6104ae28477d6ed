"""The report as a page for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.dependency_review.models import Citation, Finding, Report, Tier, Verdict

_COLOURS = {"high": "red", "medium": "yellow", "low": "green"}
_SEVERITY_COLOURS = {"critical": "red", "major": "yellow", "minor": "cyan", "info": "dim"}
_NAMES_SHOWN = 6


def render(output: Report | dict[str, Any]) -> RenderableType:
    """The report, risky packages in detail and the others in a table, for `rich.print`."""
    report = output if isinstance(output, Report) else Report.model_validate(output)
    risky = [one for one in report.verdicts if one.tier != "low"]
    calm = [one for one in report.verdicts if one.tier == "low"]
    return Group(
        *_totals(report),
        *(part for one in risky for part in _in_detail(one)),
        *([_table(calm)] if calm else []),
        *_duties(report),
    )


def _totals(report: Report) -> Iterator[RenderableType]:
    line = Text(f"{report.packages} packages: ", style="bold")
    for number, (tier, count) in enumerate(report.tiers.items()):
        line.append(", " if number else "").append(f"{count} {tier} risk", style=_colour(tier))
    yield line
    counts = ", ".join(f"{count} {severity}" for severity, count in report.severities.items())
    yield Text(f"Findings: {counts}")
    yield Text("Licences: " + ", ".join(f"{name} ({count})" for name, count in report.licenses.items()))
    for gap in report.gaps:
        yield Text(f"Package {gap.branch} could not be reviewed ({gap.state}): {gap.reason}", style="yellow")
    yield Text()


def _in_detail(verdict: Verdict) -> Iterator[RenderableType]:
    head = Text().append(f"{verdict.tier.upper()} ", style=f"bold {_colour(verdict.tier)}")
    head.append(f"{verdict.package} {verdict.version}", style="bold").append(f"  {verdict.license}")
    yield head
    if verdict.summary:
        yield Text(f"  {verdict.summary}", style="dim")
    for gap in verdict.gaps:
        yield Text(f"  not reviewed: {gap.branch} ({gap.state}: {gap.reason})", style="yellow")
    for finding in verdict.findings:
        if finding.severity != "info":
            yield from _finding(finding)
    yield Text()


def _finding(finding: Finding) -> Iterator[RenderableType]:
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(f"  {finding.severity:<8}", style=_SEVERITY_COLOURS[finding.severity]), Text(finding.message)
    )
    for citation in finding.citations[:3]:
        row.add_row("", Text(f"{_place(citation)}  {citation.quote[:60]}", style="dim"))
    yield row


def _table(verdicts: Iterable[Verdict]) -> Table:
    table = Table(title="Low risk", title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("Package", "Version", "Licence", "Remarks"):
        table.add_column(column, overflow="fold")
    for one in verdicts:
        remarks = [
            f"{finding.message} ({_place(finding.citations[0])})"
            for finding in one.findings
            if finding.severity == "minor"
        ]
        table.add_row(one.package, one.version, one.license, Text("; ".join(remarks), style="dim"))
    return table


def _duties(report: Report) -> Iterator[RenderableType]:
    yield Text()
    yield Text("What passing these packages on asks for", style="bold")
    for duty in report.obligations:
        yield Text(f"  {duty.text}: {_names(duty.packages)}")


def _names(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _place(citation: Citation) -> str:
    """`folder/FILE:line`, from the package's own folder on."""
    parts = PurePath(citation.file).parts
    start = next(
        (i for i, part in enumerate(parts) if part.endswith((".dist-info", ".egg-info"))), len(parts) - 2
    )
    end = f"-{citation.last_line}" if citation.last_line else ""
    return f"{'/'.join(parts[max(start, 0) :])}:{citation.line}{end}"


def _colour(tier: Tier | str) -> str:
    return _COLOURS[tier]
