"""The buttons of a notification as somebody asks for them: links, and actions that the server is told of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from service.errors import ValidationFailed
from service.notifications.approvals import APPROVAL, approval_actions

MAXIMUM_BUTTONS = 5
LONGEST_URL = 2_048
LINK, ACTION = "link", "action"
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
# Printable ASCII without spaces, and without the backslash that browsers take for a slash.
_URL = re.compile(r"[\x21-\x5b\x5d-\x7e]+")


def buttons_of(type_: str, asked: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The buttons of a notification of a type; an approval that can be answered by none has approve and reject.

    Raises ValidationFailed.
    """
    buttons = [_button(each, f"actions.{place}") for place, each in enumerate(asked or ())]
    if type_ == APPROVAL and all(each["kind"] == LINK for each in buttons):
        buttons = [*approval_actions(), *buttons]
    if len(buttons) > MAXIMUM_BUTTONS:
        raise ValidationFailed(errors={"actions": [f"At most {MAXIMUM_BUTTONS}, with those of an approval."]})
    keys = [each["key"] for each in buttons]
    if len(set(keys)) < len(keys):
        raise ValidationFailed(errors={"actions": ["Two have the same key."]})
    return buttons or None


def _button(asked: Mapping[str, Any], place: str) -> dict[str, Any]:
    url = asked.get("url")
    kind = asked.get("kind") or (LINK if url else ACTION)
    if not KEY.fullmatch(asked["key"]):
        raise ValidationFailed(errors={f"{place}.key": ["A letter, then letters, digits, dashes and underscores."]})
    if (kind == LINK) != (url is not None):
        raise ValidationFailed(errors={f"{place}.url": ["A link has a url, an action has none."]})
    if url is not None and not is_safe_url(url):
        raise ValidationFailed(errors={f"{place}.url": ["Must begin with http://, https:// or one slash."]})
    given = {name: asked[name] for name in ("url", "style") if asked.get(name)}
    return {"key": asked["key"], "label": asked["label"], "kind": kind, **given}


def is_safe_url(url: str) -> bool:
    """Whether a link leads to a web page, here or elsewhere, and to nothing that runs in this one."""
    if len(url) > LONGEST_URL or not _URL.fullmatch(url):
        return False
    if url.startswith("/"):
        return not url.startswith("//")
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
