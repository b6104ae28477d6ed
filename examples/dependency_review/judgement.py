"""The agents that judge: one verdict per package, and one report of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from examples.dependency_review.models import (
    SEVERITIES,
    Finding,
    Obligation,
    Report,
    Review,
    Reviews,
    Tier,
    Verdict,
)
from schemas import Gap, Gathered
from workers import Permanent, agent

MANY = 3
"""Minor findings about maintenance that together make a medium risk."""
TIERS: tuple[Tier, ...] = ("high", "medium", "low")


@agent(timeout=60)
def verdict(reviews: Reviews) -> Verdict:
    """Judge one package by the reviews there are; what nobody reviewed cannot be called a low risk.

    One critical finding makes a high risk. A medium one is made by one major finding, by `MANY` minor
    findings about maintenance, or by a missing licence or maintenance review.
    """
    license, maintenance, documentation = (
        reviews.license_review,
        reviews.maintenance_review,
        reviews.documentation_digest,
    )
    present: list[Review] = [one for one in (license, maintenance, documentation) if one is not None]
    if not present:
        raise Permanent("no reviewer gave a result, so there is nothing to judge by")
    findings = _sorted(finding for one in present for finding in one.findings)
    tier, reasons = _tier(findings, reviews.gaps)
    return Verdict(
        package=present[0].package,
        version=present[0].version,
        tier=tier,
        license=license.license if license else "not reviewed",
        summary=documentation.summary if documentation else "",
        reasons=reasons,
        findings=findings,
        key_sentences=documentation.key_sentences if documentation else [],
        obligations=license.obligations if license else [],
        gaps=reviews.gaps,
    )


@agent(timeout=60)
def report(verdicts: Gathered[Verdict]) -> Report:
    """Put the verdicts together, most risky packages first."""
    every = sorted(verdicts.results, key=lambda one: (TIERS.index(one.tier), one.package.lower()))
    severities = Counter(finding.severity for one in every for finding in one.findings)
    licenses = Counter(one.license for one in every)
    return Report(
        packages=len(every) + len(verdicts.gaps),
        tiers={tier: sum(one.tier == tier for one in every) for tier in TIERS},
        severities={severity: severities[severity] for severity in reversed(SEVERITIES)},
        licenses=dict(sorted(licenses.items(), key=lambda item: (-item[1], item[0]))),
        verdicts=every,
        obligations=_obligations(every),
        gaps=verdicts.gaps,
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (-SEVERITIES.index(one.severity), one.rule, one.message))


def _tier(findings: list[Finding], gaps: list[Gap]) -> tuple[Tier, list[str]]:
    critical = [one.message for one in findings if one.severity == "critical"]
    major = [one.message for one in findings if one.severity == "major"]
    aging = [
        one.message for one in findings if one.severity == "minor" and one.rule.startswith("maintenance.")
    ]
    missing = [f"{gap.branch} gave no result ({gap.state}: {gap.reason})" for gap in gaps]
    blind = [text for text, gap in zip(missing, gaps, strict=True) if gap.branch != "documentation_digest"]
    if critical:
        return "high", critical + major + blind
    if major or blind or len(aging) >= MANY:
        return "medium", major + blind + (aging if len(aging) >= MANY else [])
    return "low", []


def _obligations(verdicts: Iterable[Verdict]) -> list[Obligation]:
    owed: dict[str, list[str]] = {}
    for one in verdicts:
        for text in one.obligations:
            owed.setdefault(text, []).append(one.package)
    found = [Obligation(text=text, packages=sorted(names, key=str.lower)) for text, names in owed.items()]
    return sorted(found, key=lambda one: (len(one.packages), one.text))
