"""`/api/notification-templates` over HTTP, and which template holds for whom."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, select

from service.audit.models import AuditEntry
from service.database import db, transaction
from service.ids import new_id
from service.notification_templates.actions import MAXIMUM_TEMPLATES
from service.notification_templates.builtin import BUILTINS
from service.notification_templates.errors import TemplateFailed, TemplateNotFound, TemplateVariablesMissing
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.rendering import check_variables, render
from service.notification_templates.schemas import NotificationTemplateSchema
from service.notifications.channel_messages import claim_pending
from service.notifications.composing import compose
from tests.conftest import Account, MakeUser

PATH = "/api/notification-templates"
WELCOME = {
    "name": "welcome",
    "channels": ["email", "in_app"],
    "subject": "Welcome, {{ username }}",
    "body": "Hello {{ username }}, see {{ publicUrl }}",
    "html": "<p>Hello {{ username }}</p>",
    "variables": ["username"],
}
RESET = {"username": "ada", "link": "https://x/y", "until": "12:00", "timezone": "UTC"}


def make(client: FlaskClient, user: Account, **fields: Any) -> Any:
    """A template of a user's organization."""
    answer = client.post(PATH, json=WELCOME | fields, headers=user.headers)
    assert answer.status_code == 201, answer.json
    assert answer.headers["Location"] == f"{PATH}/{answer.json['id']}"
    return answer.json


@pytest.fixture
def operator(make_user: MakeUser) -> Account:
    """An operator of an organization without templates."""
    return make_user(("operator",))


def test_each_change_is_a_version_under_one_id(app: Flask, client: FlaskClient, operator: Account) -> None:
    made = make(client, operator)
    assert set(made) == set(NotificationTemplateSchema().fields), "the documented fields are those that are sent"
    assert made == made | WELCOME | {"locale": "en", "version": 1, "createdBy": str(operator.id), "channel": "email"}
    path = f"{PATH}/{made['id']}"
    second = client.patch(path, json={"subject": "Hi"}, headers=operator.headers).json
    assert second == made | {"subject": "Hi", "version": 2, "createdAt": second["createdAt"]}
    same = client.patch(path, json={"subject": "Hi"}, headers=operator.headers).json
    assert same == second, "what changes nothing is no version"
    body = {"name": "welcome", "channel": "inApp", "subject": "Third", "body": "Text"}
    third = client.put(path, json=body, headers=operator.headers).json
    assert third == third | {"version": 3, "channels": ["in_app"], "html": None, "variables": []}
    assert client.get(path, headers=operator.headers).json == third
    assert client.get(f"{path}?version=1", headers=operator.headers).json == made
    assert client.get(f"{path}?version=4", headers=operator.headers).status_code == 404
    versions = client.get(f"{path}/versions", headers=operator.headers).json
    assert (versions["data"], versions["pagination"]["total"]) == ([third, second, made], 3)
    with app.app_context():
        newest = db.session.scalar(select(NotificationTemplate.id).where(NotificationTemplate.subject == "Third"))
        actions = db.session.scalars(select(AuditEntry.action).where(AuditEntry.target_id == made["id"])).all()
    assert client.get(f"{PATH}/{newest}", headers=operator.headers).json == third, "any version leads there"
    assert sorted(actions) == [f"notification_template.{act}" for act in ("create", "update", "update")]


def test_what_is_deleted_is_hidden_and_its_versions_are_not_given_again(
    app: Flask, client: FlaskClient, operator: Account
) -> None:
    first = make(client, operator)
    path = f"{PATH}/{first['id']}"
    client.patch(path, json={"subject": "Hi"}, headers=operator.headers)
    assert client.delete(path, headers=operator.headers).status_code == 204
    for method, suffix in (("GET", ""), ("GET", "?version=1"), ("GET", "/versions"), ("DELETE", ""), ("PATCH", "")):
        body = None if method == "GET" else {}
        gone = client.open(path + suffix, method=method, json=body, headers=operator.headers)
        assert (gone.status_code, gone.json["code"]) == (404, "notification_template_not_found"), (method, suffix)
    assert client.get(PATH, headers=operator.headers).json["data"] == []
    again = make(client, operator)
    assert again["version"] == 3
    assert again["id"] != first["id"]
    with app.app_context():
        rows = select(NotificationTemplate).where(NotificationTemplate.organization_id == operator.organization_id)
        assert len(db.session.scalars(rows).all()) == 3, "the deleted ones are kept"


def test_the_list_has_the_newest_of_each_name_and_locale(client: FlaskClient, operator: Account) -> None:
    english = make(client, operator)
    make(client, operator, name="other")
    german = make(client, operator, locale="de_at", subject="Willkommen")
    assert german["locale"] == "de-AT"
    newer = client.patch(f"{PATH}/{english['id']}", json={"subject": "Hi"}, headers=operator.headers).json

    def listed(query: str) -> Any:
        return client.get(PATH + query, headers=operator.headers).json

    assert [(each["name"], each["locale"], each["version"]) for each in listed("")["data"]] == [
        ("other", "en", 1),
        ("welcome", "de-AT", 1),
        ("welcome", "en", 2),
    ]
    assert listed("?name=welcome&locale=en")["data"] == [newer]
    assert listed("?locale=DE-at")["data"] == [german]
    assert listed("?limit=1&page=3") == {
        "data": [newer],
        "pagination": {"page": 3, "limit": 1, "total": 3, "totalPages": 3},
    }


def test_a_name_and_locale_are_taken_once(client: FlaskClient, operator: Account, make_user: MakeUser) -> None:
    make(client, operator)
    taken = client.post(PATH, json=WELCOME, headers=operator.headers)
    assert (taken.status_code, taken.json["code"]) == (409, "notification_template_exists")
    make(client, operator, locale="de")
    make(client, make_user(("operator",)))


def test_two_changes_at_once_are_two_versions(app: Flask, client: FlaskClient, operator: Account) -> None:
    path = f"{PATH}/{make(client, operator)['id']}"

    def change(number: int) -> int:
        answer = app.test_client().patch(path, json={"subject": f"No. {number}"}, headers=operator.headers)
        assert answer.status_code == 200, answer.json
        version: int = answer.json["version"]
        return version

    def create(_: int) -> int:
        return app.test_client().post(PATH, json=WELCOME | {"name": "race"}, headers=operator.headers).status_code

    with ThreadPoolExecutor(8) as people:
        assert sorted(people.map(change, range(16))) == list(range(2, 18))
        assert sorted(people.map(create, range(8))) == [201, *[409] * 7]
    assert client.get(f"{path}/versions", headers=operator.headers).json["pagination"]["total"] == 17


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"name": "no spaces"}, "name", "letters"),
        ({"locale": "../de"}, "locale", "language tag"),
        ({"channels": []}, "channels", "Length"),
        ({"channels": ["pigeon"]}, "channels.0", "one of"),
        ({"channel": "email"}, "channel", "channel or channels"),
        ({"subject": " "}, "subject", "blank"),
        ({"body": "a\n{% for x %}"}, "body", "Line 2: "),
        ({"body": "{{ username.__class__ }}"}, "body", "Line 1: There is no attribute __class__."),
        ({"body": "{{ username }}{{ place }} {{ time }}"}, "body", "place, time"),
        ({"html": "{{ place }}"}, "html", "place"),
        ({"subject": "{% include 'x' %}"}, "subject", "include"),
        ({"body": "x" * 65_537}, "body", "65536"),
        ({"variables": ["username", "username"]}, "variables", "twice"),
        ({"variables": ["username", "1x"]}, "variables.1", "digit"),
        ({"variables": ["username", "loop", "publicUrl"]}, "variables", "loop, publicUrl"),
        ({"name": "digest", "variables": ["username", "colour"]}, "variables", "without colour"),
        ({"organizationId": str(uuid4())}, "organizationId", "Unknown"),
    ],
)
def test_what_cannot_be_rendered_is_not_kept(
    client: FlaskClient, operator: Account, changes: dict[str, Any], field: str, said: str
) -> None:
    refused = client.post(PATH, json=WELCOME | changes, headers=operator.headers)
    assert (refused.status_code, refused.json["code"]) == (422, "validation_failed")
    assert said.lower() in str(refused.json["errors"][field]).lower()
    assert client.get(PATH, headers=operator.headers).json["data"] == []


def test_a_change_is_checked_as_a_whole(client: FlaskClient, operator: Account) -> None:
    path = f"{PATH}/{make(client, operator)['id']}"
    refused = client.patch(path, json={"variables": []}, headers=operator.headers)
    assert (refused.status_code, set(refused.json["errors"])) == (422, {"subject", "body", "html"})
    renamed = client.put(path, json=WELCOME | {"name": "other", "locale": "de"}, headers=operator.headers)
    assert (renamed.status_code, set(renamed.json["errors"])) == (422, {"name", "locale"})
    assert client.get(path, headers=operator.headers).json["version"] == 1


def test_an_organization_has_so_many_templates(app: Flask, client: FlaskClient, operator: Account) -> None:
    fields = {each: WELCOME[each] for each in ("channels", "subject", "body", "html", "variables")}
    about = {"organization_id": operator.organization_id, "locale": "en", "version": 1, **fields}
    rows = [{"id": new_id(), "name": f"t{number}", **about} for number in range(MAXIMUM_TEMPLATES)]
    with app.app_context(), transaction() as session:
        session.execute(insert(NotificationTemplate), rows)
    refused = client.post(PATH, json=WELCOME, headers=operator.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "too_many_notification_templates")
    assert client.delete(f"{PATH}/{rows[0]['id']}", headers=operator.headers).status_code == 204
    make(client, operator)


def test_who_may_write_who_may_read_and_who_may_not_know(
    client: FlaskClient, operator: Account, make_user: MakeUser
) -> None:
    path = f"{PATH}/{make(client, operator)['id']}"
    asks = [
        ("GET", PATH, None),
        ("GET", f"{PATH}/builtin", None),
        ("GET", path, None),
        ("GET", f"{path}/versions", None),
        ("POST", f"{path}/preview", {"variables": {"username": "ada"}}),
        ("POST", f"{PATH}/preview", {"subject": "a", "body": "b"}),
    ]
    writes = [("POST", PATH, WELCOME), ("PATCH", path, {}), ("PUT", path, WELCOME), ("DELETE", path, None)]
    user, sender = (make_user((role,), operator.organization_id) for role in ("user", "sender"))
    for method, address, body in [*asks, *writes]:
        assert client.open(address, method=method, json=body, headers=user.headers).status_code == 403, (
            method,
            address,
        )
    for method, address, body in asks:
        assert client.open(address, method=method, json=body, headers=sender.headers).status_code == 200, address
    for method, address, body in writes:
        assert client.open(address, method=method, json=body, headers=sender.headers).status_code == 403
    stranger = make_user(("admin",))
    for method, address, body in [*asks, *writes]:
        if address.startswith(path):
            gone = client.open(address, method=method, json=body, headers=stranger.headers)
            assert (gone.status_code, gone.json["code"]) == (404, "notification_template_not_found"), (method, address)
    assert client.get(PATH, headers=stranger.headers).json["data"] == []


def test_a_preview_shows_each_channel_what_it_gets(app: Flask, client: FlaskClient, operator: Account) -> None:
    address = app.extensions["carillon_settings"].public_url
    made = make(client, operator, subject="Welcome,\r\nBcc: x@example.com {{ username }}")
    path = f"{PATH}/{made['id']}/preview"
    shown = client.post(path, json={"variables": {"username": "<Ada>", "more": 1}}, headers=operator.headers)
    assert (shown.status_code, shown.json) == (
        200,
        {
            "subject": "Welcome, Bcc: x@example.com <Ada>",
            "text": f"Hello <Ada>, see {address}",
            "html": "<p>Hello &lt;Ada&gt;</p>",
        },
    )
    values = {"username": "Ada\n\u2028x"}
    shown = client.post(path, json={"variables": values, "channel": "inApp"}, headers=operator.headers).json
    assert (shown["subject"], shown["html"]) == ("Welcome, Bcc: x@example.com Ada x", None)
    refused = client.post(path, json={"variables": values, "channel": "push"}, headers=operator.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["channel"])
    refused = client.post(path, json={}, headers=operator.headers)
    assert (refused.status_code, refused.json["code"]) == (422, "template_variables_missing")
    assert list(refused.json["errors"]) == ["variables.username"]
    assert "username" in refused.json["message"]


def test_a_preview_of_what_is_not_kept(client: FlaskClient, operator: Account) -> None:
    def preview(**body: Any) -> Any:
        return client.post(f"{PATH}/preview", json={"subject": "S", "body": "B"} | body, headers=operator.headers)

    assert preview(body="{{ a }}", html="{{ a }}", variables={"a": "<"}).json == {
        "subject": "S",
        "text": "<",
        "html": "&lt;",
    }
    assert preview(body="{{ a }}{{ b }}", variables={"a": 1}).json["errors"].keys() == {"variables.b"}
    assert preview(body="{% if %}").json["errors"]["body"][0].startswith("Line 1")
    failed = preview(body="\n{{ a.b }}", variables={"a": {}}).json
    assert (failed["code"], failed["errors"]["body"][0][:7]) == ("template_failed", "Line 2:")
    # "\ud800" is half a character that a template can write, and nothing can store.
    assert preview(body="{{ '\\ud800\\x00' }}").json["text"] == "?\ufffd"


def test_a_bomb_does_not_hold_up_who_asks(client: FlaskClient, operator: Account) -> None:
    body = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    begun = time.monotonic()
    source = {"subject": "S", "body": body}
    failed = client.post(f"{PATH}/preview", json=source, headers=operator.headers)
    assert (failed.status_code, failed.json["code"]) == (422, "template_failed")
    assert time.monotonic() - begun < 20


def test_a_test_goes_to_whoever_asks(app: Flask, client: FlaskClient, make_user: MakeUser, operator: Account) -> None:
    path = f"{PATH}/{make(client, operator)['id']}"
    sender = make_user(("sender",), operator.organization_id)
    accepted = client.post(f"{path}/test", json={"variables": {"username": "<Ada>"}}, headers=sender.headers)
    assert accepted.status_code == 202
    # It is rendered by then.
    client.delete(path, headers=operator.headers)
    with app.app_context():
        message = claim_pending(UUID(accepted.json["messageId"]))
        assert message is not None
        letter = compose(message)
    address = app.extensions["carillon_settings"].public_url
    assert (letter.to, letter.subject) == (f"{sender.username}@example.com", "Welcome, <Ada>")
    assert (letter.text, letter.html) == (f"Hello <Ada>, see {address}", "<p>Hello &lt;Ada&gt;</p>")


def test_a_test_needs_a_way_out(client: FlaskClient, operator: Account) -> None:
    path = f"{PATH}/{make(client, operator, channels=['in_app'])['id']}/test"
    refused = client.post(path, json={"variables": {"username": "a"}}, headers=operator.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["channel"])


def test_the_best_template_for_a_locale_and_a_channel_holds(
    in_app: None, client: FlaskClient, operator: Account, make_user: MakeUser
) -> None:
    org = operator.organization_id
    for locale, channels in (("en", ["email", "push"]), ("de", ["email"]), ("de-AT", ["whatsapp"])):
        make(client, operator, name="hello", locale=locale, subject=locale, channels=channels)

    def subject(locale: str | None, channel: str = "email", organization: UUID = org) -> str:
        return render(organization, "hello", locale, {"username": "a"}, channel).subject

    assert [subject(each) for each in ("de", "de-AT", "de_CH", "fr", "en-GB", None, "?")] == [*["de"] * 3, *["en"] * 4]
    assert subject("de-AT", "whatsapp") == "de-AT"
    assert subject("de-AT", "push") == "en"
    with pytest.raises(TemplateNotFound):
        subject("de", "whatsapp")
    with pytest.raises(TemplateNotFound):
        subject("de", organization=make_user().organization_id)
    with pytest.raises(TemplateVariablesMissing, match="username"):
        render(org, "hello", "de", {}, "email")


def test_a_send_is_checked_for_all_locales_before_it_goes(in_app: None, client: FlaskClient, operator: Account) -> None:
    org = operator.organization_id
    make(client, operator, name="hello")
    make(client, operator, name="hello", locale="de", body="{{ ort }}", variables=["username", "ort"])
    check_variables(org, "hello", {"username", "ort", "more"})
    with pytest.raises(TemplateVariablesMissing, match="ort"):
        check_variables(org, "hello", {"username"})
    with pytest.raises(TemplateNotFound):
        check_variables(org, "nothing", {"username"})
    check_variables(org, "password_reset", RESET.keys())


def test_the_platforms_messages_are_listed_and_can_be_overridden(
    in_app: None, client: FlaskClient, operator: Account, make_user: MakeUser
) -> None:
    listed = client.get(f"{PATH}/builtin", headers=operator.headers).json["data"]
    assert [each["name"] for each in listed] == list(BUILTINS)
    org = operator.organization_id
    ours = render(org, "password_reset", "de", RESET, "email")
    assert (ours.subject, "https://x/y" in ours.text, "https://x/y" in (ours.html or "")) == (
        "Set a new password",
        True,
        True,
    )
    own = {"name": "password_reset", "channels": ["email"], "subject": "Neu", "body": "{{ link }}", "html": None}
    path = f"{PATH}/{make(client, operator, **own, variables=['link'])['id']}"
    assert render(org, "password_reset", "de", RESET, "email").subject == "Neu"
    assert render(make_user().organization_id, "password_reset", "de", RESET, "email") == ours
    assert render(None, "password_reset", None, RESET, "email") == ours
    # A link to a new password has to arrive, whatever the tenant's template makes of it.
    client.patch(path, json={"body": "{{ link.nothing }}"}, headers=operator.headers)
    assert render(org, "password_reset", "de", RESET, "email") == ours
    client.delete(path, headers=operator.headers)
    assert render(org, "password_reset", "de", RESET, "email") == ours


def test_a_template_that_fails_says_so(in_app: None, client: FlaskClient, operator: Account) -> None:
    make(client, operator, name="hello", body="{{ username.nothing }}")
    with pytest.raises(TemplateFailed, match="Line 1"):
        render(operator.organization_id, "hello", None, {"username": "a"}, "email")
