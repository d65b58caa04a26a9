"""JSON over HTTP, as the providers of WhatsApp speak it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import requests
from requests.auth import AuthBase

from service.notifications.providers.letters import Failed

TIMEOUT_SECONDS = 10.0
EXCERPT_LENGTH = 200


class Answer(NamedTuple):
    """What a provider said; `document` is empty where it was not a JSON object."""

    status: int
    document: Mapping[str, Any]
    excerpt: str

    @property
    def is_success(self) -> bool:
        """Whether it took the letter."""
        return 200 <= self.status < 300

    @property
    def is_about_provider(self) -> bool:
        """Whether it refused us, is overloaded or broken: the next letter would fare no better."""
        return self.status in (401, 403, 404, 408, 429) or not 400 <= self.status < 500


class Bearer(AuthBase):
    """A token in the Authorization header; said so, lest a .netrc put something else there."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with the token."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@cache
def _session(place: str) -> requests.Session:
    """The kept connections to a place, of this process."""
    del place
    return requests.Session()


def post(
    url: str,
    place: str,
    *,
    auth: AuthBase | tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    json: Mapping[str, Any] | None = None,
) -> Answer:
    """Post once, a form or JSON; redirects are not followed. Raises Failed when there is no answer."""
    try:
        response = _session(place).post(
            url,
            data=form,
            json=json,
            auth=auth,
            headers=dict(headers or {}),
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
        text = response.text
    except (requests.RequestException, ValueError) as error:
        # Not the text: it shows the address of a server inside the network.
        raise Failed(type(error).__name__) from error
    try:
        document = response.json()
    except ValueError:
        document = None
    return Answer(response.status_code, document if isinstance(document, dict) else {}, text[:EXCERPT_LENGTH])
