"""Three readers assess the risk of each clause of a contract, each for itself; where they differ, it is said.

Two of three who agree decide; three who all differ leave it to a judge, whose scores are weighed by a rubric. Who said
something else stands in the report. The readers are rules in plain functions, not language models, and this is no
legal advice; one that calls a model takes the place of one that does not, without a change anywhere else.

    baton run contract-risk @examples/contract_risk/mpl-2.0.txt --app examples.contract_risk --watch
    baton runs explain RUN
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel

from examples.contract_risk.clauses import Clause, Clauses, Contract, clauses
from orchestrator import debate, each, workflow
from schemas import Case, Debated, Gap, Gathered, Verdict
from workers import agent

Risk = Literal["low", "medium", "high"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high")

RUBRIC = {"evidence": 0.5, "caution": 0.3, "precision": 0.2}
"""What a good assessment does: quotes the clause, rather overstates a risk than misses it, and names what it is."""

MANY = 3
"""Different words of a kind that make a risk great."""

_DUTY = re.compile(r"\b(must|shall|required to|may not|only if|provided that|ensure|you agree)\b", re.I)
_EXPOSURE = re.compile(
    r"\b(liab\w+|damages|warrant\w+|as is|terminat\w+|litigation|jurisdiction|indemnif\w+|infring\w+|negligence)\b",
    re.I,
)
_GRANT = re.compile(r"\b(grants?|granted|may|permitted|free to|right to|reinstated|available)\b", re.I)
_LIMIT = re.compile(r"\b(not|no|only|except|unless|without|notwithstanding|however)\b", re.I)


class Assessment(BaseModel):
    """What one reader thinks of a clause."""

    clause: str
    line: int
    risk: Risk
    why: str
    quote: str = ""
    """The sentence that it rests on, word for word."""


class Finding(BaseModel):
    """What the readers came to about one clause."""

    assessment: Assessment
    decided_by: str
    confidence: float
    dissent: list[Assessment]
    """Those that see another risk."""


class RiskReport(BaseModel):
    findings: list[Finding]
    """The greatest risk first, and of these the surest; what is low and undisputed is only counted."""
    low: int
    disputed: int
    gaps: list[Gap] = []


@agent
async def split_clauses(contract: Contract) -> Clauses:
    """Finds the numbered clauses."""
    return Clauses(clauses=clauses(contract.text))


@agent
async def duties(clause: Clause) -> Assessment:
    """Counts what You must do."""
    return _counted(clause, _DUTY, "things that must be done")


@agent
async def exposure(clause: Clause) -> Assessment:
    """Counts what may be claimed from You, or lost."""
    return _counted(clause, _EXPOSURE, "things that may be claimed or lost")


@agent
async def rights(clause: Clause) -> Assessment:
    """Weighs what is granted against what is taken back."""
    granted, limited = (len(words.findall(clause.text)) for words in (_GRANT, _LIMIT))
    risk: Risk = "high" if limited > 2 * granted + 1 else "medium" if limited > granted else "low"
    return _assessment(clause, risk, f"grants {granted} times, takes back {limited} times", _LIMIT)


@agent
async def judge(case: Case[Assessment]) -> Verdict:
    """Scores each assessment by the rubric."""
    clause = Clause.model_validate(case.task)
    scores = {}
    for reader, one in case.positions.items():
        quoted = 1.0 if one.quote and one.quote in clause.text else 0.3 if not one.quote else 0.0
        precise = min(1.0, 25 / len(one.quote.split())) if one.quote else 0.0
        scores[reader] = {"evidence": quoted, "caution": RISKS.index(one.risk) / 2, "precision": precise}
    return Verdict(scores=scores, reason="weighed by quote, caution and precision", confidence=0.5)


@agent
async def report(given: Gathered[Debated[Assessment]]) -> RiskReport:
    """Puts the greatest risk first."""
    findings = [
        Finding(
            assessment=one.answer,
            decided_by=one.by,
            confidence=one.confidence,
            dissent=[other.answer for other in one.dissent],
        )
        for one in given.results
    ]
    told = [one for one in findings if one.assessment.risk != "low" or one.dissent]
    told.sort(key=lambda one: (-RISKS.index(one.assessment.risk), -one.confidence, one.assessment.line))
    disputed = sum(bool(one.dissent) for one in findings)
    return RiskReport(findings=told, low=len(findings) - len(told), disputed=disputed, gaps=given.gaps)


def _counted(clause: Clause, words: re.Pattern[str], what: str) -> Assessment:
    """The more different words of a kind, the greater the risk."""
    found = {word.casefold() for word in words.findall(clause.text)}
    risk: Risk = "high" if len(found) >= MANY else "medium" if found else "low"
    named = f": {', '.join(sorted(found))}" if found else ""
    return _assessment(clause, risk, f"{len(found)} {what}{named}", words)


def _assessment(clause: Clause, risk: Risk, why: str, words: re.Pattern[str]) -> Assessment:
    """With the sentence in which most of these words stand."""
    best = max(clause.sentences, key=lambda sentence: len(words.findall(sentence)))
    quote = best if words.search(best) else ""
    where = f"{clause.number} {clause.title}"
    return Assessment(clause=where, line=clause.line, risk=risk, why=why, quote=quote)


contract_risk = workflow(
    "contract-risk",
    split_clauses
    >> each(
        debate(duties, exposure, rights, mode="majority", fields=["risk"], judge=judge, rubric=RUBRIC),
        items="clauses",
        max_items=500,
        require="any",
        parallel=8,
        join=report,
    ),
    description="Assesses the risk of each clause of a contract, and says where the readers differ.",
)
