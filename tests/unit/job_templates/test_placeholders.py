"""Placeholders in payloads: what they become, and that they can do nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.job_templates.placeholders import TooLarge, faults, filled, names_in

LIMIT = 1_000


def fill(value: Any, **values: Any) -> Any:
    """One value of a payload, filled."""
    return filled({"field": value}, values, limit=LIMIT)["field"]


def wrong(value: Any, *declared: str) -> list[str]:
    """The faults of one value of a payload."""
    return [fault for each in faults({"field": value}, set(declared)).values() for fault in each]


@pytest.mark.parametrize("value", [3, 2.5, True, None, "text", ["a", 1], {"a": {"b": [None]}}])
def test_a_placeholder_alone_becomes_the_value_with_its_type(value: Any) -> None:
    assert fill("{{ x }}", x=value) == value
    assert fill("{{x}}", x=value) == value
    assert type(fill("{{ x }}", x=value)) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ("äö", "äö"),
        ("", ""),
        (["a", 1], '["a", 1]'),
        ({"a": "ß"}, '{"a": "ß"}'),
    ],
)
def test_in_a_longer_text_it_is_written_as_text(value: Any, text: str) -> None:
    assert fill("a {{ x }}/{{ x }}", x=value) == f"a {text}/{text}"
    assert fill(" {{ x }}", x=value) == f" {text}"


def test_a_payload_is_filled_however_deep() -> None:
    payload = {"a": [{"b": "{{ n }}"}, "n is {{ n }}", 7], "{": "}", "c": None}
    assert filled(payload, {"n": 1}, limit=LIMIT) == {"a": [{"b": 1}, "n is 1", 7], "{": "}", "c": None}
    assert names_in(payload) == {"n"}
    assert payload["a"] == [{"b": "{{ n }}"}, "n is {{ n }}", 7], "the template stays as it was"


def test_a_value_is_not_looked_into() -> None:
    assert fill("{{ x }} {{ y }}", x="{{ y }}", y="{{ x }}") == "{{ y }} {{ x }}"


def test_two_braces_that_are_no_placeholder() -> None:
    assert fill("{{ '{{' }} x }}") == "{{ x }}"
    assert fill("{{ '{{' }}") == "{{"
    assert wrong("{{ '{{' }} x }} and } and { and }}") == []
    assert names_in({"a": "{{ '{{' }} x }}"}) == set()


@pytest.mark.parametrize(
    "text",
    [
        "{{ x.y }}",
        "{{ x['__class__'] }}",
        "{{ x() }}",
        "{{ 7 * 7 }}",
        "{{ x | upper }}",
        "{{ 'text' }}",
        "{{ }}",
        "{{}}",
        "{{ x",
        "{{{{ x }}",
        "{{ x }} {{",
        "{{\nx }}",
        "{{ ä }}",
        "{{ 1x }}",
        "{{ " + "x" * 65 + " }}",
    ],
)
def test_everything_else_in_braces_is_refused(text: str) -> None:
    assert wrong(text, "x") == ["Must be {{ name }}; two braces that are no placeholder are written {{ '{{' }}."]


def test_statements_of_template_languages_are_plain_text() -> None:
    text = "{% for a in x %}{# #}${x} #{x} %(x)s {x}"
    assert wrong(text) == []
    assert fill(text, x=1) == text


def test_faults_are_named_by_their_place() -> None:
    payload = {"a": [{"b": "{{ nobody }} {{ nobody }} {{ x }}"}], "{{ x }}": 1}
    assert faults(payload, {"x"}) == {
        "payload.a.0.b": ["There is no variable nobody."],
        "payload.{{ x }}": ["A name of a field holds no placeholders."],
    }
    assert len(faults({"a": ["{{ y }}"] * 5_000}, set())) == 100


def test_many_places_for_a_long_text_are_refused_before_they_are_filled() -> None:
    payload = {"a": ["{{ x }}" * 1_000] * 50, "b": ["{{ x }}"] * 1_000}
    with pytest.raises(TooLarge):
        filled(payload, {"x": "y" * 1_000_000}, limit=1_000_000)
    with pytest.raises(TooLarge):
        filled(payload, {"x": ["y" * 1_000_000]}, limit=1_000_000)
    assert len(fill("{{ x }}" * 10, x="y" * 100)) == LIMIT


def test_hostile_braces_take_no_time() -> None:
    started = time.monotonic()
    for text in ("{{" * 200_000, "{{ " * 200_000, "{{" + " " * 400_000, "{{ x" + " " * 400_000, "{{ " + "x" * 400_000):
        assert wrong(text, "x")
    assert time.monotonic() - started < 5


@given(st.text(alphabet="{} 'x", max_size=30))
def test_what_has_no_fault_can_be_filled(text: str) -> None:
    if not wrong(text, "x"):
        assert isinstance(fill(text, x="value"), str)
