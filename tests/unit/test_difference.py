"""What an overwrite changed: one line per member, sorted by path."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import difference
from propagator.core.difference import Change, JsonObject, JsonValue

LEAVES: st.SearchStrategy[JsonValue] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text())
)
NAMES = st.text(st.characters(exclude_characters="."), min_size=1)
TABLES: st.SearchStrategy[JsonValue] = st.dictionaries(NAMES, LEAVES, min_size=1)
OBJECTS: st.SearchStrategy[JsonObject] = st.dictionaries(NAMES, st.one_of(LEAVES, TABLES))


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        pytest.param(None, None, [], id="nothing before and nothing after"),
        pytest.param({"a": {"b": "x"}}, {"a": {"b": "x"}}, [], id="no change"),
        pytest.param(None, {"a": {"b": "x"}}, [("a.b", None, "x")], id="the first registration"),
        pytest.param({"a": "x"}, None, [("a", "x", None)], id="a registration withdrawn"),
        pytest.param({"a": {"b": "x"}}, {"a": {"b": "y"}}, [("a.b", "x", "y")], id="another text"),
        pytest.param({"b": "1", "a": "1"}, {"a": "2", "b": "2"}, [("a", "1", "2"), ("b", "1", "2")], id="sorted"),
        pytest.param({"a": ["x", "y"]}, {"a": ["x"]}, [("a", "x, y", "x")], id="a list of texts in one line"),
        pytest.param({"a": []}, {"a": ["x"]}, [("a", "", "x")], id="an empty list filled"),
        pytest.param({"a": True}, {"a": False}, [("a", "true", "false")], id="a consent withdrawn"),
        pytest.param({"a": 12}, {"a": 24.5}, [("a", "12", "24.5")], id="numbers"),
        pytest.param({"a": [1, {"b": "ü"}]}, {}, [("a", '[1, {"b": "ü"}]', None)], id="a list of anything as JSON"),
        pytest.param({"a": None}, {}, [("a", "null", None)], id="null is not the same as not there"),
        pytest.param({"a": 1}, {"a": "1"}, [("a", "1", "1")], id="a number became a text"),
        pytest.param({"a": 1}, {"a": True}, [("a", "1", "true")], id="a number became true"),
        pytest.param({"a": ["x, y"]}, {"a": ["x", "y"]}, [("a", "x, y", "x, y")], id="one entry became two"),
        pytest.param({"a": "x"}, {"a": {"b": "x"}}, [("a", "x", None), ("a.b", None, "x")], id="a text became a table"),
    ],
)
def test_between_lists(
    before: JsonObject | None, after: JsonObject | None, changes: list[tuple[str, str | None, str | None]]
) -> None:
    assert difference.between(before, after) == tuple(Change(*change) for change in changes)


@given(OBJECTS, OBJECTS)
def test_between_is_empty_only_for_the_same_members(before: JsonObject, after: JsonObject) -> None:
    assert difference.between(before, before) == ()
    same = json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert (difference.between(before, after) == ()) is same


@given(OBJECTS, OBJECTS)
def test_between_backwards_is_the_same_turned_round(before: JsonObject, after: JsonObject) -> None:
    turned = tuple(Change(change.path, change.after, change.before) for change in difference.between(after, before))
    assert turned == difference.between(before, after)
