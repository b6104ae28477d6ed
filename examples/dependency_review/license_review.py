"""The licence reviewer: what the texts grant, what the metadata declare, what the project may use."""

from __future__ import annotations

from collections.abc import Iterator

from examples.dependency_review.license_case import Case
from examples.dependency_review.license_terms import FINE, Strength, base, judge, obligations, same, strength
from examples.dependency_review.metadata import cite
from examples.dependency_review.models import Citation, Finding, LicenseReview, Material, Severity
from examples.dependency_review.spdx_expression import parse
from workers import agent


@agent(timeout=60)
def license_review(material: Material) -> LicenseReview:
    """Identify a licence from its text, compare it with the metadata and with the project's licence."""
    case = Case(material)
    return LicenseReview(
        package=material.package.name,
        version=material.package.version,
        license=case.license,
        declared=case.said.text if case.said else None,
        identified=[one.license for one in case.own],
        obligations=list(dict.fromkeys(duty for id in case.ids for duty in obligations(id))),
        findings=[
            *_declaration(case),
            *_texts(case),
            *_conflicts(case),
            *_bundled(case),
            *_notice_files(case),
        ],
    )


def _declaration(case: Case) -> Iterator[Finding]:
    said = case.said
    if said is None:
        if case.own:
            message = f"The metadata declare no licence; the text is that of {case.license}"
            places = [case.metadata.nowhere(), case.own[0].citation]
            yield _finding("license.undeclared", "minor", message, places)
        return
    place = case.metadata.at(said.field)
    yield _finding("license.declared", "info", f"Declares {said.text}", [place])
    if not said.valid:
        yield _finding(
            "license.expression", "minor", f"{said.text!r} is not a valid SPDX expression", [place]
        )
    elif not said.acceptable:
        yield _finding(
            "license.unclear", "minor", f"The declaration {said.text!r} does not name a licence", [place]
        )
    if case.contradicted:
        names = ", ".join(one.license for one in case.own)
        message = (
            f"Declares {said.text}, but its licence text is that of {names}: the text is what is granted"
        )
        yield _finding("license.mismatch", "major", message, [place, *(one.citation for one in case.own)])


def _texts(case: Case) -> Iterator[Finding]:
    for one in case.own:
        how = "the text" if one.match.kind == "text" else "a notice that refers to it"
        yield _finding("license.identified", "info", f"{one.license}, recognised by {how}", [one.citation])
    header = case.metadata.nowhere()
    if not case.own_files:
        if case.said:
            message = f"Installs no licence text; whoever passes it on must find that of {case.license}"
            yield _finding("license.text-missing", "minor", message, [case.metadata.at(case.said.field)])
        else:
            message = "No licence, neither declared nor as a text: without one nobody may use the package"
            yield _finding("license.none", "critical", message, [header])
    elif not case.own:
        message = "Its licence text is none that this review knows: read it"
        severity: Severity = "minor" if case.said and case.said.expression else "major"
        yield _finding("license.unrecognised", severity, message, [cite(case.own_files[0], 1)])
    else:
        yield from _incomplete(case)


def _incomplete(case: Case) -> Iterator[Finding]:
    """Parts of an `AND` expression whose text is not there."""
    said = case.said
    if not said or not said.expression or " OR " in said.expression or case.contradicted:
        return
    there = [one.license for one in (*case.own, *case.bundled)]
    for id in parse(said.expression).ids():
        if not any(same(id, one) for one in there):
            message = f"Declares {id} beside others, but installs no text of it"
            yield _finding("license.text-missing", "minor", message, [case.metadata.at(said.field)])


def _conflicts(case: Case) -> Iterator[Finding]:
    judgement = case.judgement
    if judgement is not FINE:
        places = case.evidence or [case.metadata.nowhere()]
        sure = case.own or (case.said and case.said.expression)
        doubt = "" if sure or not case.said else f"if {case.said.text!r} means {case.ids[0]}: "
        rule = "license.conflict" if judgement.severity == "critical" else "license.condition"
        yield _finding(rule, judgement.severity, _sentence(doubt + judgement.why), places)
    for one in case.own:
        # Texts beside the declared licence are those of parts that were taken from elsewhere.
        if not any(same(one.license, id) for id in case.ids):
            verdict = judge(one.license, case.project)
            message = f"Parts of it are under {one.license}" + (f": {verdict.why}" if verdict.why else "")
            yield _finding("license.part", _milder(verdict.severity), message, [one.citation])


def _bundled(case: Case) -> Iterator[Finding]:
    fine = []
    for one in case.bundled:
        verdict = judge(one.license, case.project)
        if (
            strength(one.license) or Strength.PERMISSIVE
        ) is Strength.PERMISSIVE and verdict.severity == "info":
            fine.append(one)
        else:
            message = (
                f"Bundles something under {one.license}, which {case.project} may not allow: see what it is"
            )
            yield _finding("license.bundled", _milder(verdict.severity), message, [one.citation])
    if fine:
        names = ", ".join(sorted({one.license for one in fine}))
        places = [one.citation for one in fine]
        yield _finding("license.bundled", "info", f"Bundles something under {names}", places)


def _milder(severity: Severity) -> Severity:
    """One step down for a part of a package: a licence file does not tell whether that part is ever used."""
    steps: dict[Severity, Severity] = {"critical": "major", "major": "minor"}
    return steps.get(severity, severity)


def _notice_files(case: Case) -> Iterator[Finding]:
    """Section 4(d) of Apache-2.0: the attribution notices of a NOTICE file have to be passed on."""
    if not any(base(id) == "Apache-2.0" for id in case.ids):
        return
    for file in case.material.licenses:
        if file.file.rpartition("/")[2].upper().startswith("NOTICE") and file.text.strip():
            line = next(number for number, text in enumerate(file.text.split("\n"), 1) if text.strip())
            yield _finding(
                "license.notice", "info", "Its NOTICE file has to be passed on", [cite(file, line)]
            )


def _finding(rule: str, severity: Severity, message: str, citations: list[Citation]) -> Finding:
    return Finding(rule=rule, severity=severity, message=message, citations=citations)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
