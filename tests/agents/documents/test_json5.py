"""Edits of JSON5: what is put in comes out again, and no other byte moves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.agents.documents import document
from metaclaw.agents.documents.document import Item, Place
from metaclaw.agents.documents.formats import JSON5

_BLANKS = st.sampled_from(
    ["", " ", "\n", "\t", "\n    ", ' // a note, with } and " in it\n', " /* not: this */ ", "\r\n"]
)
_KEYS = st.sampled_from(["a", "b", "naïve", "x-y", "$z", "ours", "1"])
_SCALARS = st.sampled_from(
    ['"text"', "'it\\'s'", "1.50", "0x1F", "-.5", "+1", "true", "null", '"\\u00e9 // no"', "Infinity"]
)


@st.composite
def _json5(draw: st.DrawFn, depth: int = 0) -> str:
    """The text of an object, as strange as people write them."""

    def value() -> str:
        kind = draw(st.integers(0, 3 if depth < 3 else 0))
        if kind == 1:
            return draw(_json5(depth + 1))
        if kind == 2:
            items = [blank() + draw(_SCALARS) + blank() for _ in range(draw(st.integers(0, 3)))]
            return f"[{','.join(items)}{draw(st.sampled_from(['', ','])) if items else ''}{blank()}]"
        return draw(_SCALARS)

    def blank() -> str:
        return draw(_BLANKS)

    def key(name: str) -> str:
        is_bare = name.isidentifier() and draw(st.booleans())
        return name if is_bare else json.dumps(name, ensure_ascii=draw(st.booleans()))

    names = draw(st.lists(_KEYS, max_size=4, unique=True))
    members = [f"{blank()}{key(name)}{blank()}:{blank()}{value()}{blank()}" for name in names]
    comma = draw(st.sampled_from(["", ","])) if members else ""
    return f"{{{','.join(members)}{comma}{blank()}}}"


_PLACES = st.lists(_KEYS, min_size=1, max_size=3).map(tuple)
_VALUES = st.sampled_from([1, "ours", {"url": "http://x/v1", "list": ["é", {}]}, [], {}])


@settings(max_examples=150, deadline=None)
@given(text=_json5(), place=_PLACES, value=_VALUES)
def test_what_is_put_in_comes_out_again_and_no_other_byte_moves(text: str, place: Place, value: Any):
    before = JSON5.read(text)
    was = document.value_at(before, place)
    depth = document.depth_there(before, place)
    if was is document.MISSING and not isinstance(document.value_at(before, place[:depth]), dict):
        return  # there is something else in the way: see below
    after = document.put(JSON5, text, place, value)
    assert document.value_at(JSON5.read(after), place) == value
    if was is not document.MISSING:
        back = document.put_source(JSON5, after, place, JSON5.source(text, place), was)
        assert back == text
        return
    assert _is_inside(text, after), "something else than an insertion"
    back = document.remove(JSON5, after, place[: depth + 1])
    if document.value_at(before, place[:depth]):  # a group that was empty may have had blanks in it
        assert back == text
    else:
        assert JSON5.read(back) == before


def _is_inside(before: str, after: str) -> bool:
    """Whether ``after`` has all characters of ``before`` in their order."""
    left = iter(after)
    return all(char in left for char in before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('{\n  "a": 1 // one\n}\n', '{\n  "a": 1, // one\n  "ours": 2\n}\n', id="a note stays"),
        pytest.param("{\n\ta: 1, // one\n}", '{\n\ta: 1, // one\n\t"ours": 2,\n}', id="tabs and comma stay"),
        pytest.param('{"a": 1}', '{"a": 1, "ours": 2}', id="one line stays one line"),
        pytest.param('{\r\n    "a": 1\r\n}', '{\r\n    "a": 1,\r\n    "ours": 2\r\n}', id="line ends stay"),
        pytest.param("{ /* nothing yet */ }", '{\n  "ours": 2\n /* nothing yet */ }', id="an empty one"),
        pytest.param("", '{\n  "ours": 2\n}\n', id="an empty file"),
    ],
)
def test_a_new_entry_looks_like_those_around_it(before: str, after: str):
    assert document.put(JSON5, before, ("ours",), 2) == after


def test_an_element_of_a_list_is_found_by_what_it_is():
    text = '{"list": [\n  {"name": "theirs"}, // first\n]}'
    place = ("list", Item("ours", "name"))
    after = document.put(JSON5, text, place, {"name": "ours"})
    assert JSON5.read(after) == {"list": [{"name": "theirs"}, {"name": "ours"}]}
    assert document.remove(JSON5, after, place) == text
    after = document.put(JSON5, text, ("paths", Item("/ours")), "/ours")
    assert JSON5.read(after)["paths"] == ["/ours"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{\n"a": 1\n"b": 2}', "line 3: a comma"),
        ('{"a": tru}', "a value is missing"),
        ('{"a": "never closed}', "a value is missing"),
        ('{"a": 1', "is missing"),
        ("{} {}", "something follows"),
        ("[" * 5000, "nested too deep"),
    ],
)
def test_what_is_no_json5_is_refused_with_its_line(text: str, says: str):
    with pytest.raises(ValueError, match=says):
        JSON5.read(text)


def test_what_is_in_the_way_is_not_overwritten():
    with pytest.raises(ValueError, match="an object or a list was expected"):
        document.put(JSON5, '{"models": "all"}', ("models", "providers"), {})
