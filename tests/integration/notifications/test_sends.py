"""Notifications to audiences: who may send what to whom, and that each recipient hears of it once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.clock import utcnow
from service.ids import derived_id, new_id
from service.notifications import sends
from service.notifications.sends import Sender, send_to_roles, send_to_users, send_to_users_and_roles
from tasks.testing import run_job
from tests.conftest import MakeUser
from tests.factories.sends import NEWS, Mailbox, Sql, inbox


def test_the_request_of_s3_reaches_its_user_by_each_channel(
    client: FlaskClient, make_user: MakeUser, post: Any, work: Any, sql: Sql, mailbox: Mailbox
) -> None:
    sender = make_user(("sender",))
    user = make_user(organization=sender.organization_id)
    answer = post(sender, userId=str(user.id), channels=["inApp", "email", "whatsapp"], category="security")
    assert answer.status_code == 202, answer.json
    send_id = answer.json["id"]
    assert answer.headers["Location"] == f"/api/notification-sends/{send_id}"
    assert [each["channel"] for each in answer.json["jobs"]] == ["in_app", "email", "whatsapp"]
    job = client.get(f"/api/jobs/{answer.json['jobs'][0]['jobId']}", headers=sender.headers).json
    assert (job["type"], job["status"]) == ("in-app-notification", "queued")
    runs = work(send_id)
    assert [run.result["recipients"] for run in runs] == [1, 1, 1]
    (notification,) = inbox(client, user)
    assert {name: notification[name] for name in NEWS} == NEWS
    assert (notification["category"], notification["sendId"]) == ("security", send_id)
    assert mailbox.recipients == [f"{user.username}@example.com"]
    seen = client.get(f"/api/notification-sends/{send_id}", headers=sender.headers).json
    assert (seen["status"], seen["recipients"]) == ("completed", 1)
    assert seen["perChannel"]["in_app"]["delivered"] == seen["perChannel"]["email"]["sent"] == 1
    assert seen["perChannel"]["whatsapp"]["suppressed"] == 1

    trace = client.get(f"/api/notifications/{notification['id']}/trace", headers=user.headers).json["data"]
    told = {each["channel"]: (each["status"], each["reason"]) for each in trace}
    assert told == {
        "in_app": ("delivered", None),
        "email": ("sent", None),
        "whatsapp": ("suppressed", "channel_off"),
        "push": ("skipped", "not_asked"),
    }
    mail = next(each for each in trace if each["channel"] == "email")
    assert (mail["provider"], mail["attempts"], mail["address"]) == ("smtp", 1, "u***@example.com")
    assert mail["providerId"]
    whole = client.get(f"/api/notifications/{send_id}/trace", headers=sender.headers).json
    assert sorted(each["status"] for each in whole["data"]) == ["delivered", "sent", "suppressed"]
    for stranger, status in ((make_user(organization=sender.organization_id), 403), (make_user(("admin",)), 404)):
        for path in (f"notification-sends/{send_id}", f"notifications/{send_id}/trace"):
            assert client.get(f"/api/{path}", headers=stranger.headers).status_code == status
        cancelled = client.delete(f"/api/notification-sends/{send_id}", headers=stranger.headers)
        assert cancelled.status_code == status


def test_only_senders_send(make_user: MakeUser, post: Any) -> None:
    user = make_user()
    assert post(user, userId=str(user.id)).status_code == 403
    assert post(user, userId="nobody").status_code == 403, "rights are looked at first"
    for role in ("admin", "operator", "sender"):
        sender = make_user((role,))
        assert post(sender, userId=str(sender.id)).status_code == 202
        critical = post(sender, userId=str(sender.id), critical=True)
        assert critical.status_code == (202 if role == "admin" else 403)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "userId"),
    ({"userIds": []}, "userIds"),
    ({"userId": str(new_id())}, "userIds.0"),
    ({"roles": ["king"]}, "roles.0"),
    ({"all": True, "channels": ["telegram"]}, "channels.0"),
    ({"all": True, "title": None}, "title"),
    ({"all": True, "template": "no-such"}, "template"),
    ({"all": True, "templateId": str(new_id())}, "templateId"),
    ({"all": True, "template": "job_completed", "variables": {"jobName": "Scan", "jobId": "7"}}, "variables.url"),
    ({"all": True, "type": "two words"}, "type"),
    ({"all": True, "category": "Releases"}, "category"),
    ({"all": True, "category": "r" * 51}, "category"),
    ({"all": True, "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"all": True, "sendAt": "9999-12-31T23:59:59-14:00"}, "sendAt"),
    ({"all": True, "actions": [{"key": "go to", "label": "Go"}]}, "actions.0.key"),
    ({"all": True, "actions": [{"key": "go", "label": "Go", "url": "javascript:alert(1)"}]}, "actions.0.url"),
    ({"all": True, "actions": [{"key": "go", "label": "Go", "url": "//evil.example"}]}, "actions.0.url"),
    ({"all": True, "actions": [{"key": "go", "label": "Go", "url": "/\\evil.example"}]}, "actions.0.url"),
    ({"all": True, "actions": [{"key": "go", "label": "Go"}] * 2}, "actions"),
    ({"all": True, "data": {"long": "x" * 20_000}}, "data"),
]


def test_what_cannot_be_sent_is_refused_by_its_field(make_user: MakeUser, post: Any) -> None:
    sender = make_user(("sender",))
    for fields, field in REFUSED:
        answer = post(sender, **fields)
        assert (answer.status_code, list(answer.json["errors"])) == (422, [field]), (fields, answer.json)


def test_users_of_another_tenant_are_as_unknown_and_nobody_is_no_audience(make_user: MakeUser, post: Any) -> None:
    sender, stranger = make_user(("sender",)), make_user()
    refused = post(sender, userIds=[str(sender.id), str(stranger.id)])
    assert (refused.status_code, refused.json["errors"]) == (422, {"userIds.1": ["There is no such user."]})
    assert post(sender, roles=["operator"]).json["code"] == "empty_audience"


def test_roles_and_users_together_hear_of_it_once_and_other_tenants_never(
    client: FlaskClient, make_user: MakeUser, post: Any, work: Any, sql: Sql
) -> None:
    sender = make_user(("sender",))
    both = make_user(("operator", "user"), sender.organization_id)
    plain = make_user(organization=sender.organization_id)
    gone = make_user(("operator",), sender.organization_id)
    sql("UPDATE users SET is_active = false WHERE id = :id", id=gone.id)
    stranger = make_user(("operator",))
    webhook = {"url": "http://127.0.0.1:9/hook", "eventType": "notification"}
    assert client.post("/api/webhooks", json=webhook, headers=both.headers).status_code == 201
    sent = post(sender, userIds=[str(both.id)], roles=["operator"]).json
    assert [run.result for run in work(sent["id"])] == [{"recipients": 1, "delivered": 1, "suppressed": 0}]
    assert [len(inbox(client, each)) for each in (both, plain, sender, stranger)] == [1, 0, 0, 0]
    (planned,) = sql("SELECT event_type, payload FROM webhook_deliveries WHERE user_id = :id", id=both.id)
    assert (planned["event_type"], planned["payload"]["data"]["title"]) == ("notification.created", NEWS["title"])
    everybody = post(sender, all=True).json
    work(everybody["id"])
    assert [len(inbox(client, each)) for each in (both, plain, sender, stranger)] == [2, 1, 1, 0]


def test_from_python_it_is_one_function_each(app: Flask, make_user: MakeUser, client: FlaskClient, work: Any) -> None:
    user = make_user()
    operator = make_user(("operator",), user.organization_id)
    platform = Sender(organization_id=user.organization_id)
    with app.app_context():
        made = [
            send_to_users([user.id], sender=platform, **NEWS),
            send_to_roles(["operator"], sender=platform, **NEWS),
            send_to_users_and_roles([user.id], ["operator"], sender=platform, **NEWS),
        ]
    for sent in made:
        work(str(sent.send_id))
    assert [len(inbox(client, each)) for each in (user, operator)] == [2, 2]


def test_a_muted_category_is_suppressed_with_its_reason_unless_it_is_critical(
    client: FlaskClient, make_user: MakeUser, post: Any, work: Any, mailbox: Mailbox, sql: Sql
) -> None:
    admin = make_user(("admin",))
    user = make_user(organization=admin.organization_id)
    for channel in ("in_app", "email"):
        body = {"notificationType": "offers", "channel": channel, "enabled": False}
        assert client.put("/api/notifications/preferences", json=body, headers=user.headers).status_code == 200
    fields = {"userId": str(user.id), "channels": ["in_app", "email"], "category": "offers"}
    muted = post(admin, **fields).json
    work(muted["id"])
    trace = client.get(f"/api/notifications/{muted['id']}/trace", headers=admin.headers).json["data"]
    assert {(each["channel"], each["status"], each["reason"]) for each in trace} == {
        ("in_app", "suppressed", "muted"),
        ("email", "suppressed", "muted"),
    }
    assert (inbox(client, user), mailbox.recipients) == ([], [])
    work(post(admin, critical=True, **fields).json["id"])
    assert (len(inbox(client, user)), len(mailbox.recipients)) == (1, 1)


def test_a_batch_is_sent_as_a_whole_or_not_at_all(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user(("sender",))

    def batch(*audiences: Any) -> Any:
        body = {"notifications": [{**NEWS, **each} for each in audiences]}
        return client.post("/api/notifications/batch", json=body, headers=sender.headers)

    refused = batch({"all": True}, {"userId": str(new_id())})
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["notifications.1.userIds.0"])

    def listed() -> list[str]:
        page = client.get("/api/notification-sends", headers=sender.headers).json
        return [each["id"] for each in page["data"]]

    assert listed() == []
    sent = batch({"all": True}, {"userId": str(sender.id)}).json["data"]
    assert listed() == [each["id"] for each in reversed(sent)]
    assert batch(*[{"all": True}] * 101).status_code == 422


def test_what_is_scheduled_can_be_called_off(client: FlaskClient, make_user: MakeUser, post: Any) -> None:
    sender = make_user(("sender",))
    sent = post(sender, all=True, sendAt=(utcnow() + timedelta(days=1)).isoformat(), channels=["in_app", "email"]).json
    path = f"/api/notification-sends/{sent['id']}"
    seen = client.get(path, headers=sender.headers).json
    assert (seen["status"], [each["status"] for each in seen["jobs"]]) == ("scheduled", ["scheduled"] * 2)
    called_off = client.delete(path, headers=sender.headers).json
    assert (called_off["status"], [each["status"] for each in called_off["jobs"]]) == ("cancelled", ["cancelled"] * 2)
    again = client.delete(path, headers=sender.headers)
    assert (again.status_code, again.json["code"]) == (409, "send_not_cancellable")
    at_once = post(sender, all=True, sendAt="0001-01-01T00:00:00+14:00").json
    seen = client.get(f"/api/notification-sends/{at_once['id']}", headers=sender.headers).json
    assert (seen["status"], seen["sendAt"]) == ("sending", None)


def test_a_schedule_sends_by_the_present_rights_of_its_owner_and_each_job_once(
    app: Flask, client: FlaskClient, make_user: MakeUser, sql: Sql
) -> None:
    sender = make_user(("sender",))
    body = {"name": "Weekly", "type": "notification-send", "payload": {**NEWS, "all": True}, "cron": "0 8 * * 1"}
    assert client.post("/api/schedules", json=body, headers=make_user().headers).status_code == 403
    made = client.post("/api/schedules", json=body, headers=sender.headers)
    assert made.status_code == 201, made.json
    client.delete(f"/api/schedules/{made.json['id']}", headers=sender.headers)
    job_id = new_id()
    with app.app_context():
        runs = [run_job("notification-send", body["payload"], job_id=job_id, user_id=sender.id) for _ in range(2)]
    assert runs[0].result == runs[1].result
    made = sql("SELECT id FROM notification_sends WHERE sender_id = :id", id=sender.id)
    assert [each["id"] for each in made] == [derived_id(job_id, "send")]
    sql("UPDATE users SET roles = '{user}' WHERE id = :id", id=sender.id)
    with app.app_context():
        run_job("notification-send", body["payload"], user_id=sender.id).assert_failed("not_allowed")


def test_nobody_runs_the_jobs_of_other_peoples_sends(
    app: Flask, client: FlaskClient, make_user: MakeUser, post: Any
) -> None:
    sender = make_user(("sender",))
    sent = post(sender, all=True).json
    job = {"type": "in-app-notification", "payload": {"sendId": sent["id"]}}
    for other in (make_user(("admin",), sender.organization_id), make_user()):
        refused = client.post("/api/jobs", json=job, headers=other.headers)
        assert (refused.status_code, refused.json["code"]) == (404, "notification_send_not_found")
    with app.app_context():
        of_platform = send_to_users([sender.id], sender=Sender(organization_id=sender.organization_id), **NEWS)
        job["payload"] = {"sendId": str(of_platform.send_id)}
        assert client.post("/api/jobs", json=job, headers=sender.headers).status_code == 404
        # Nor by a channel that was not asked for.
        run = run_job("email-notification", {"sendId": sent["id"]}, user_id=sender.id)
        run.assert_failed("send_not_found")


def test_more_than_a_thousand_are_asked_nothing(
    make_user: MakeUser, post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sends, "MAXIMUM_ASKED", 1)
    sender = make_user(("sender",))
    link = {"key": "look", "label": "Look", "url": "https://example.com/7"}
    assert post(sender, all=True, type="approval").status_code == 202
    make_user(organization=sender.organization_id)
    refused = post(sender, all=True, type="approval")
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["actions"])
    assert post(sender, all=True, actions=[link]).status_code == 202


def test_an_approval_asks_for_an_answer(client: FlaskClient, make_user: MakeUser, post: Any, work: Any) -> None:
    sender = make_user(("sender",))
    user = make_user(organization=sender.organization_id)
    link = {"key": "look", "label": "Look", "url": "https://example.com/7"}
    sent = post(sender, userIds=[str(user.id)], type="approval", actions=[link]).json
    work(sent["id"])
    (asked,) = inbox(client, user)
    assert [each["key"] for each in asked["actions"]] == ["approve", "reject", "look"]
    client.post(f"/api/notifications/{asked['id']}/actions/approve", headers=user.headers)
    seen = client.get(f"/api/notification-sends/{sent['id']}", headers=sender.headers).json
    assert (seen["resolution"], seen["resolvedBy"]) == ("approve", str(user.id))


def test_a_template_speaks_to_each_by_name(
    client: FlaskClient, make_user: MakeUser, post: Any, work: Any, mailbox: Mailbox
) -> None:
    sender = make_user(("sender",))
    variables = {"jobName": "Maintenance", "jobId": "7", "url": "https://example.com/7"}
    sent = post(sender, userId=str(sender.id), title=None, message=None, template="job_completed", variables=variables)
    assert sent.status_code == 422, "null is no title"
    body = {"type": "informational", "userId": str(sender.id), "template": "job_completed", "variables": variables}
    accepted = client.post("/api/notifications", json=body, headers=sender.headers).json
    work(accepted["id"])
    (notification,) = inbox(client, sender)
    assert notification["title"] == "Maintenance has completed"
    assert f"Hello {sender.username}," in notification["message"]
    words = {"name": "loud", "channel": "in_app", "subject": "Hi", "body": "{{ username|upper }}!"}
    admin = make_user(("admin",), sender.organization_id)
    body = {**words, "variables": ["username"]}
    assert client.post("/api/notification-templates", json=body, headers=admin.headers).status_code == 201
    body = {"type": "informational", "userId": str(sender.id), "template": "loud"}
    work(client.post("/api/notifications", json=body, headers=sender.headers).json["id"])
    assert inbox(client, sender)[0]["message"].lower() == f"{sender.username}!".lower()
