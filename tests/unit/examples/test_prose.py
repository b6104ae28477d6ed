from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.prose import blocks, plain
from examples.sentences import key_sentences, key_terms, sentences

README = """# Counter

[![build](https://example.org/badge.svg)](https://example.org)

Counter counts *things* of every [kind](https://example.org), e.g. apples.
It is `fast` and simple.

```python
this = is_not("prose, but code that nobody wants to read")
```

    nor is this indented block of code here

Usage
~~~~~

- Counting apples is done with one call.
- Counting pears is done with another one.
"""


def test_blocks_of_a_readme() -> None:
    found = [(one.heading, one.line, one.text) for one in blocks(README)]
    assert found == [
        (1, 1, "Counter"),
        (0, 5, "Counter counts things of every kind, e.g. apples. It is fast and simple."),
        (1, 14, "Usage"),
        (0, 17, "Counting apples is done with one call."),
        (0, 18, "Counting pears is done with another one."),
    ]


def test_sentences_know_their_lines() -> None:
    found = [(one.line, one.text) for one in sentences(README, first_line=11)]
    assert found[:2] == [
        (15, "Counter counts things of every kind, e.g. apples."),
        (16, "It is fast and simple."),
    ]


def test_levels_of_restructured_text() -> None:
    text = "=====\nTitle\n=====\n\nPart\n----\n\nOther\n-----\n"
    assert [(one.heading, one.text) for one in blocks(text)] == [(1, "Title"), (2, "Part"), (2, "Other")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("**Bold** and _thin_ `code`", "Bold and thin code"),
        ("`Docs <https://example.org>`_ and :func:`call`", "Docs and call"),
        ("See the documentation_.", "See the documentation."),
        ("<b>Loud</b> ![picture](x.png) words", "Loud words"),
        ("a snake_case_name and 2 * 3 * 4", "a snake_case_name and 2 * 3 * 4"),
    ],
)
def test_markup_is_removed(line: str, expected: str) -> None:
    assert plain(line) == expected


def test_key_sentences_keep_their_order_and_do_not_repeat() -> None:
    text = (
        "The queue keeps every task until a worker takes it. "
        "Bananas are yellow in most of the countries. "
        "Every worker runs tasks for the queue. "
        "The queue keeps every task until a worker takes it. "
    )
    found = [one.text for one in key_sentences(sentences(text), 2)]
    assert found == [
        "The queue keeps every task until a worker takes it.",
        "Every worker runs tasks for the queue.",
    ]


def test_words_of_the_title_add_weight() -> None:
    text = "Apples grow on trees in gardens. Plums grow on trees in gardens. Pears grow on trees in gardens."
    (found,) = key_sentences(sentences(text), 1, "All about plums")
    assert found.text.startswith("Plums")


def test_terms_occur_more_than_once() -> None:
    assert key_terms(sentences("The queue holds a queue of tasks. Workers take tasks from it."), 5) == [
        "queue",
        "tasks",
    ]


@given(st.text(alphabet=st.sampled_from("ab. #`~=-*_[]()|:>\n\t<!"), max_size=200))
def test_any_text_has_blocks_in_order(text: str) -> None:
    lines = [one.line for one in blocks(text)]
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)
