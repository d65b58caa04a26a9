"""Pushes to browsers: signed on, encrypted for each of them, taken off when they are gone."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete

from devstack.ports import free_port
from service.database import transaction
from service.ids import new_id
from service.notifications import providers
from service.notifications.providers import Away, Letter, Refused
from service.push.keys import public_key
from service.push.models import PlatformKey
from tests.conftest import Account, MakeUser
from tests.factories import stand_ins
from tests.factories.stand_ins import Posted, StandIn, answered

SUBSCRIPTIONS = "/api/push/subscriptions"


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Browser:
    """Makes a subscription and reads what comes to it, as a browser does."""

    def __init__(self, service: str) -> None:
        self.endpoint = f"{service}/push/{new_id()}"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = os.urandom(16)

    @property
    def subscription(self) -> dict[str, Any]:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": encoded(point), "auth": encoded(self.secret)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def read(self, post: Posted) -> Any:
        return json.loads(http_ece.decrypt(post.body, private_key=self.key, auth_secret=self.secret))


@pytest.fixture
def service() -> Iterator[StandIn]:
    """A push service."""
    with stand_ins.push_service() as running:
        yield running


@pytest.fixture
def subscribe(client: FlaskClient, service: StandIn) -> Callable[..., Browser]:
    """Signs a new browser on for a user."""

    def sign_on(user: Account, browser: Browser | None = None) -> Browser:
        browser = browser or Browser(service.url)
        answer = client.post(SUBSCRIPTIONS, json=browser.subscription, headers=user.headers)
        assert answer.status_code == 201, answer.text
        return browser

    return sign_on


def listed(client: FlaskClient, user: Account) -> list[str]:
    return [each["endpoint"] for each in client.get(SUBSCRIPTIONS, headers=user.headers).get_json()["data"]]


def letter(user: Account, **fields: Any) -> Letter:
    about = {"message_id": new_id(), "to": str(user.id), "subject": "Job done", "text": "It took 3 s."}
    return Letter(**{**about, "data": {"jobId": "1"}, **fields})


def test_a_browser_reads_what_was_pushed_to_it(
    in_app: None, client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    user = make_user()
    browsers = [subscribe(user), subscribe(user)]
    message = letter(user)
    assert providers.send("push", message) == ("web_push", "/message/1")
    assert len(service.posts) == 2
    for browser in browsers:
        (post,) = [post for post in service.posts if browser.endpoint.endswith(post.path)]
        assert browser.read(post) == {
            "id": str(message.message_id),
            "title": "Job done",
            "body": "It took 3 s.",
            "data": {"jobId": "1"},
        }
        assert (post.headers["content-encoding"], int(post.headers["ttl"]) > 0) == ("aes128gcm", True)
        # A push service puts the second of two pushes with one topic in place of the first.
        assert 0 < len(post.headers["topic"]) <= 32


def test_the_platform_shows_itself_to_the_push_service(
    in_app: None, client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    user = make_user()
    subscribe(user)
    providers.send("push", letter(user))
    scheme, _, rest = service.posts[0].headers["authorization"].partition(" ")
    shown = dict(each.strip().split("=", 1) for each in rest.split(","))
    told = client.get("/api/push/key", headers=user.headers).get_json()["publicKey"]
    assert (scheme, shown["k"]) == ("vapid", told)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(told))
    claims = jwt.decode(shown["t"], key, algorithms=["ES256"], audience=service.url)
    assert claims["sub"] == "mailto:carillon@localhost"


def test_the_key_is_made_once(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.execute(delete(PlatformKey))

    def ask(_: int) -> str:
        with app.app_context():
            return public_key()

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(6)))) == 1
    with app.app_context(), transaction() as session:
        assert b"PRIVATE KEY" not in session.get_one(PlatformKey, "vapid").value


def test_a_browser_that_is_gone_is_taken_off(
    in_app: None, client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    user = make_user()
    for _ in range(3):
        subscribe(user)
    service.faults = [answered(410), answered(404), answered(503)]
    with pytest.raises(Away, match="503"):
        providers.send("push", letter(user))
    assert len(listed(client, user)) == 1
    service.faults = [answered(410)]
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            providers.send("push", letter(user))
        assert refusal.value.reason == "no_device"
    assert listed(client, user) == []


def test_one_browser_that_takes_it_is_enough(
    in_app: None, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    user = make_user()
    subscribe(user)
    subscribe(user)
    service.faults = [answered(500)]
    assert providers.send("push", letter(user)).provider == "web_push"


def test_a_push_service_that_is_down_is_one_browsers_affair(
    in_app: None, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    unlucky, lucky = make_user(), make_user()
    subscribe(unlucky, Browser(f"http://127.0.0.1:{free_port()}"))
    subscribe(lucky)
    for _ in range(4):
        with pytest.raises(Away, match="connection_refused"):
            providers.send("push", letter(unlucky))
    assert providers.send("push", letter(lucky)).provider == "web_push"


def test_a_long_message_is_shortened_to_what_push_services_take(
    in_app: None, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    user = make_user()
    browser = subscribe(user)
    providers.send("push", letter(user, subject="ü" * 500, text="\u4e2d" * 9000, data={"x": "y" * 5000}))
    (post,) = service.posts
    assert len(post.body) <= 4096
    assert browser.read(post)["title"].startswith("ü" * 80)


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/push", "https://10.0.0.1/push", "ftp://example.com/", "nonsense", ""]
)
def test_an_address_inside_the_network_is_no_push_service(
    client: FlaskClient, make_user: MakeUser, address: str
) -> None:
    subscription = {**Browser("").subscription, "endpoint": address}
    answer = client.post(SUBSCRIPTIONS, json=subscription, headers=make_user().headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["endpoint"])


@pytest.mark.parametrize(
    ("name", "key"), [("p256dh", encoded(b"\4" + bytes(64))), ("p256dh", "ä"), ("auth", "AAAA"), ("auth", None)]
)
def test_keys_that_nothing_can_be_encrypted_for(
    client: FlaskClient, make_user: MakeUser, service: StandIn, name: str, key: str | None
) -> None:
    subscription = Browser(service.url).subscription
    subscription["keys"][name] = key
    answer = client.post(SUBSCRIPTIONS, json=subscription, headers=make_user().headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [f"keys.{name}"])


def test_the_newest_twenty_browsers_count(
    client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser]
) -> None:
    user = make_user()
    browsers = [subscribe(user) for _ in range(21)]
    subscribe(user, browsers[5])
    endpoints = [browser.endpoint for browser in browsers]
    assert listed(client, user) == [endpoints[5], *reversed(endpoints[6:]), *reversed(endpoints[1:5])]


def test_a_browser_belongs_to_who_used_it_last(
    client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser], service: StandIn
) -> None:
    first, second = make_user(), make_user()
    browser = subscribe(first)
    # Somebody who only knows the address takes nothing away.
    thief = Browser(service.url)
    thief.endpoint = browser.endpoint
    subscribe(second, thief)
    assert listed(client, first) == [browser.endpoint]
    subscribe(second, browser)
    assert (listed(client, first), listed(client, second)) == ([], [browser.endpoint])


def test_a_browser_signs_off(client: FlaskClient, make_user: MakeUser, subscribe: Callable[..., Browser]) -> None:
    user, other = make_user(), make_user()
    kept, left, taken = subscribe(user), subscribe(user), subscribe(user)
    ids = {each["endpoint"]: each["id"] for each in client.get(SUBSCRIPTIONS, headers=user.headers).get_json()["data"]}

    def sign_off(account: Account) -> tuple[int, int]:
        by_address = client.delete(SUBSCRIPTIONS, json={"endpoint": left.endpoint}, headers=account.headers)
        by_id = client.delete(f"{SUBSCRIPTIONS}/{ids[taken.endpoint]}", headers=account.headers)
        return by_address.status_code, by_id.status_code

    assert sign_off(other) == (404, 404)
    assert sign_off(user) == (204, 204)
    assert sign_off(user) == (404, 404)
    assert listed(client, user) == [kept.endpoint]


def test_who_has_no_browser_is_told_by_the_services_of_the_installation(
    in_app: None, make_user: MakeUser, subscribe: Callable[..., Browser], change_settings: Callable[..., None]
) -> None:
    without, having = make_user(), make_user()
    subscribe(having)
    with stand_ins.ntfy() as ntfy:
        change_settings(push_apprise_urls=(f"{ntfy.url.replace('http:', 'ntfy:')}/carillon-{{username}}",))
        assert providers.send("push", letter(without)) == ("apprise", None)
        assert providers.send("push", letter(having)).provider == "web_push"
        (post,) = ntfy.posts
        assert (post.json["topic"], post.json["title"]) == (f"carillon-{without.username}", "Job done")
        assert post.json["message"] == "It took 3 s."
        ntfy.faults = [answered(500, {"code": 50001})]
        with pytest.raises(Away, match="apprise"):
            providers.send("push", letter(without))
