"""Placeholders in payloads: `{{ name }}`, and nothing else.

A language of our own that can name variables and do nothing: no attributes, no calls, no loops. A text that is one
placeholder and nothing more becomes the variable's value, of whatever type; in a longer text the value is written as
text. Two braces that are no placeholder are written `{{ '{{' }}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
PLACEHOLDER = re.compile(rf"\{{\{{ *(?:({NAME})|'\{{\{{') *\}}\}}")
MAXIMUM_MESSAGES = 100


class TooLarge(ValueError):
    """The values make the payload larger than it may be."""


def faults(payload: Mapping[str, Any], declared: set[str]) -> dict[str, list[str]]:
    """What is wrong with the placeholders of a payload, by field; a hundred faults at most."""
    found = ((f"payload{path}", fault) for path, text in _texts(payload) for fault in _faults_of(text, declared))
    messages: dict[str, list[str]] = {}
    for field, fault in islice(found, MAXIMUM_MESSAGES):
        messages.setdefault(field, []).append(fault)
    for path in islice(_names_with_braces(payload), MAXIMUM_MESSAGES):
        messages.setdefault(f"payload{path}", []).append("A name of a field holds no placeholders.")
    return messages


def names_in(payload: Mapping[str, Any]) -> set[str]:
    """The variables that a payload asks for."""
    return {name for _, text in _texts(payload) for name in PLACEHOLDER.findall(text) if name}


def filled(payload: Mapping[str, Any], values: Mapping[str, Any], *, limit: int) -> dict[str, Any]:
    """The payload with the values in place of their placeholders; raises TooLarge beyond `limit` characters of them."""
    filling = _Filling(values, limit)
    return {key: filling.fill(value) for key, value in payload.items()}


def _faults_of(text: str, declared: set[str]) -> Iterator[str]:
    if "{{" in PLACEHOLDER.sub(" ", text):
        yield "Must be {{ name }}; two braces that are no placeholder are written {{ '{{' }}."
    for name in dict.fromkeys(PLACEHOLDER.findall(text)):
        if name and name not in declared:
            yield f"There is no variable {name}."


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the path to it: `.rows.0.name`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, f"{path}.{key}")
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _texts(below, f"{path}.{place}")


def _names_with_braces(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            if "{{" in key:
                yield f"{path}.{key}"
            yield from _names_with_braces(below, f"{path}.{key}")
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _names_with_braces(below, f"{path}.{place}")


class _Filling:
    """Puts values into places, and counts what that costs: a text for a hundred places comes a hundred times."""

    def __init__(self, values: Mapping[str, Any], limit: int) -> None:
        self._values = values
        self._texts = {name: _as_text(value) for name, value in values.items()}
        self._left = limit

    def fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._fill_text(value)
        if isinstance(value, Mapping):
            return {key: self.fill(below) for key, below in value.items()}
        if isinstance(value, list):
            return [self.fill(below) for below in value]
        return value

    def _fill_text(self, text: str) -> Any:
        self._left -= sum(len(self._texts.get(name, "")) for name in PLACEHOLDER.findall(text))
        if self._left < 0:
            raise TooLarge
        whole = PLACEHOLDER.fullmatch(text)
        if whole is not None and whole[1] is not None:
            return self._values[whole[1]]
        return PLACEHOLDER.sub(lambda match: "{{" if match[1] is None else self._texts[match[1]], text)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
