"""Locales of templates."""

from __future__ import annotations

import pytest

from service.notification_templates.locales import fallbacks, normalised


@pytest.mark.parametrize(
    ("given", "stored"),
    [("de", "de"), ("DE_at", "de-AT"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("", None), ("x", None)],
)
def test_one_way_to_write_a_locale(given: str, stored: str | None) -> None:
    assert normalised(given) == stored


@pytest.mark.parametrize("bad", ["deutsch", "de-", "de--AT", "../en", "de-AT\n", "d" * 3 + "-abcdefgh" * 9])
def test_what_is_no_locale(bad: str) -> None:
    assert normalised(bad) is None
    assert fallbacks(bad) == ["en"]


def test_what_stands_in_for_a_locale() -> None:
    assert fallbacks("zh-Hant-TW") == ["zh-Hant-TW", "zh-Hant", "zh", "en"]
    assert fallbacks("en-GB") == ["en-GB", "en"]
    assert fallbacks(None) == ["en"]
