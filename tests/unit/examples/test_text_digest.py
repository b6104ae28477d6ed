from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from examples.text_digest import (
    MAX_SECTIONS,
    Digest,
    Section,
    SectionDigest,
    Text,
    digest_section,
    merge_digests,
    render,
    split_sections,
    text_digest,
)
from orchestrator.definitions.compile import compile_workflow
from schemas import Gap, Gathered

SOURCE = Path(__file__).with_name("license_texts.py")
STORY = """Queues
======

A queue keeps tasks in order until a worker is free to take them.

## Workers

Workers take tasks from the queue and run them one after the other.
A worker that dies gives its tasks back to the queue.
"""


def digest(text: str) -> Digest:
    parts = [digest_section(one) for one in split_sections(Text(text=text)).sections]
    found: Digest = merge_digests(Gathered(results=parts))
    return found


def test_the_workflow_compiles() -> None:
    plan = compile_workflow(text_digest)
    assert plan.input_schema["required"] == ["text"]


def test_sections_follow_headings() -> None:
    found = split_sections(Text(text=STORY)).sections
    assert [(one.title, one.first_line) for one in found] == [("Queues", 1), ("Workers", 6)]


def test_a_digest_quotes_the_text_with_its_lines() -> None:
    found = digest(STORY)
    assert (found.title, found.words) == ("Queues", len(STORY.split()))
    assert {"queue", "tasks"} & set(found.terms)
    lines = STORY.split("\n")
    for section in found.sections:
        for sentence in section.sentences:
            assert sentence.text in lines[sentence.line - 1]


def test_a_title_may_be_given() -> None:
    found = split_sections(Text(text="No heading here, only words.", title="Given")).sections
    assert [one.title for one in found] == ["Given"]


def test_a_text_without_headings_is_cut_at_empty_lines() -> None:
    paragraph = "A line of words that goes on.\n" * 50 + "\n"
    found = split_sections(Text(text=paragraph * 10)).sections
    assert len(found) == 4
    assert all(one.text.strip() for one in found)


def test_windows_lines() -> None:
    assert digest(STORY.replace("\n", "\r\n")) == digest(STORY)


def test_nothing_to_digest() -> None:
    assert digest(" \n\n") == Digest(title="", words=0, terms=[], sections=[])


def test_sections_are_bounded() -> None:
    many = "".join(f"# Part {i}\n\nSome words.\n\n" for i in range(2 * MAX_SECTIONS))
    assert len(split_sections(Text(text=many)).sections) == MAX_SECTIONS


def test_a_gap_is_passed_on_and_shown() -> None:
    section: SectionDigest = digest_section(Section(title="A", first_line=1, text=STORY))
    found = merge_digests(
        Gathered(results=[section], gaps=[Gap(branch="1", state="failed", reason="broken")])
    )
    page = StringIO()
    Console(width=100, file=page).print(render(found.model_dump(mode="json")))
    assert "section 1 is missing: broken" in page.getvalue()


@given(st.text(max_size=300))
def test_no_line_is_lost(text: str) -> None:
    sections = split_sections(Text(text=text)).sections
    kept = "".join(one.text for one in sections)
    assert re.sub(r"\s", "", kept) == re.sub(r"\s", "", text)


def test_a_real_file_gets_the_same_digest_twice() -> None:
    text = SOURCE.read_text()
    assert digest(text) == digest(text)
