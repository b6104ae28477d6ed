"""A question to a folder of documents: a planner sends readers out, a reviewer asks for what is missing.

The first round looks for the words of the question as they stand. What nobody found is looked for in its other forms in
the second. A document that is not UTF-8 goes to a reader that takes what it gets; one that nobody can read is named as
a gap. The agents are rules in plain functions, not language models; one that calls a model takes the place of one that
does not, without a change anywhere else.

    baton run research-report @examples/research_report/question.json --app examples.research_report --watch
    baton runs explain RUN
"""

from __future__ import annotations

from pydantic import BaseModel

from examples.research_report import library
from examples.research_report.library import Passage
from orchestrator import supervise, workflow
from schemas import Assignment, Assignments, Brief, Review, Supervised
from workers import Permanent, Retry, agent

PER_TERM = 3
"""Passages that a report quotes for a term."""


class Question(BaseModel):
    question: str
    folder: str = "documents"
    """Where the documents are; a relative path begins beside this example."""


class Search(BaseModel):
    """What a reader is to look for, and where."""

    folder: str
    document: str
    terms: list[str]


class Found(BaseModel):
    document: str
    passages: list[Passage]


class Answer(BaseModel):
    """What the documents say about each term."""

    quotes: dict[str, list[Passage]]
    missing: list[str]
    """Terms of which no document speaks."""


class Report(BaseModel):
    text: str
    """In Markdown, with each quotation's document and line."""
    complete: bool
    """Whether every document was read, and every term found."""


@agent
async def plan(brief: Brief[Question]) -> Assignments:
    """Sends one reader to each document: first for the words of the question, then for other forms of those missing."""
    asked = brief.task
    wanted = library.terms(asked.question) if brief.round == 1 else brief.feedback.split()
    searched = wanted if brief.round == 1 else [library.stem(term) for term in wanted]
    return Assignments(
        assignments=[
            Assignment(
                worker="read",
                input=Search(folder=asked.folder, document=name, terms=searched),
                why=f"{name} may speak of {', '.join(wanted)}",
            )
            for name in library.documents(asked.folder)
        ]
    )


@agent(retry=Retry(max=0))
def read(search: Search) -> Found:
    """Finds the sentences of a document, in UTF-8, that speak of a term."""
    path = library.folder(search.folder) / search.document
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Permanent(f"{search.document} is not in UTF-8") from error
    return Found(document=search.document, passages=library.passages(search.document, text, search.terms))


@agent(retry=Retry(max=0))
def read_anyway(search: Search) -> Found:
    """The same for a document in another encoding: what is not in ASCII may come out wrong."""
    data = (library.folder(search.folder) / search.document).read_bytes()
    if b"\0" in data:
        raise Permanent(f"{search.document} is no text")
    text = data.decode("latin-1")
    return Found(document=search.document, passages=library.passages(search.document, text, search.terms))


@agent
async def review(brief: Brief[Question]) -> Review[Answer]:
    """Accepts when every term was found somewhere, and says which were not."""
    quotes = _quotes(brief)
    missing = [term for term, found in quotes.items() if not found]
    return Review(
        accept=not missing,
        answer=Answer(quotes={term: found for term, found in quotes.items() if found}, missing=missing),
        feedback=" ".join(missing),
        findings=sorted({f"{one.document}:{one.line}" for found in quotes.values() for one in found}),
    )


@agent
async def write(result: Supervised[Answer]) -> Report:
    """Puts it on paper, with what is missing and what could not be read."""
    answer = result.answer or Answer(quotes={}, missing=[])
    lines = []
    for term, found in answer.quotes.items():
        lines += [f"## {term}", ""]
        lines += [f"- {one.text} ({one.document}:{one.line})" for one in found]
        lines.append("")
    if answer.missing:
        lines += [f"No document speaks of: {', '.join(answer.missing)}.", ""]
    lines += [f"Not read: {gap.input['document']}: {gap.reason}" for gap in result.gaps]
    return Report(text="\n".join(lines).strip(), complete=not answer.missing and not result.gaps)


def _quotes(brief: Brief[Question]) -> dict[str, list[Passage]]:
    """The first passages found for each term of the question, one for each document before a second one."""
    read = [Found.model_validate(one.output).passages for one in brief.found]
    quotes: dict[str, list[Passage]] = {}
    for term in library.terms(brief.task.question):
        forms = {term, library.stem(term)}
        found = [[one for one in passages if forms & set(one.terms)] for passages in read]
        ranked = sorted((rank, n) for n, passages in enumerate(found) for rank in range(len(passages)))
        quotes[term] = [found[n][rank] for rank, n in ranked[:PER_TERM]]
    return quotes


research_report = workflow(
    "research-report",
    supervise(
        read,
        read_anyway,
        planner=plan,
        reviewer=review,
        alternatives={"read": "read_anyway"},
        parallel=3,
        max_assignments=50,
        within=60,
    )
    >> write,
    description="Answers a question from a folder of documents, with quotations, and names what could not be read.",
)
