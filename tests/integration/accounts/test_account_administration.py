"""Administrators and the users of their own organization."""

from __future__ import annotations

from uuid import uuid4

import pytest


@pytest.fixture
def admin(make_user):
    """An administrator of an organization of his own."""
    return make_user(("user", "admin"))


@pytest.fixture
def change(client):
    """Changes a user as somebody."""

    def send(user_id, by, **body):
        return client.patch(f"/api/admin/users/{user_id}", json=body, headers=by.headers)

    return send


def test_only_the_own_tenant_is_listed(client, make_user, admin):
    colleague = make_user(organization=admin.organization_id)
    make_user()
    answer = client.get("/api/admin/users", headers=admin.headers)
    assert answer.status_code == 200
    assert [user["id"] for user in answer.json["data"]] == [str(admin.id), str(colleague.id)]
    assert answer.json["pagination"] == {"page": 1, "limit": 20, "total": 2, "totalPages": 1}
    assert "argon2" not in answer.text


def test_filters(client, make_user, admin, sql):
    colleague = make_user(organization=admin.organization_id)
    sql("UPDATE users SET is_active = false WHERE id = :id", id=colleague.id)

    def ids(query):
        data = client.get(f"/api/admin/users?{query}", headers=admin.headers).json["data"]
        return [user["id"] for user in data]

    assert ids("role=admin") == [str(admin.id)]
    assert ids("isActive=false") == [str(colleague.id)]
    assert ids(f"q={colleague.username[3:].upper()}") == [str(colleague.id)]
    assert ids("q=%25") == []
    assert client.get("/api/admin/users?role=king", headers=admin.headers).status_code == 422
    assert client.get("/api/admin/users?q=%00", headers=admin.headers).status_code == 422


@pytest.mark.parametrize("roles", [("user",), ("operator",), ("user", "operator")])
def test_nobody_else_may(client, make_user, change, admin, roles):
    user = make_user(roles, admin.organization_id)
    assert client.get("/api/admin/users", headers=user.headers).status_code == 403
    assert change(user.id, user, roles=["admin"]).status_code == 403
    assert change(user.id, user, nonsense=True).status_code == 403


def test_roles_are_given_and_taken(post, make_user, change, admin):
    user = make_user(organization=admin.organization_id)
    answer = change(user.id, admin, roles=["operator", "user", "operator"])
    assert (answer.status_code, answer.json["roles"]) == (200, ["operator", "user"])
    session = post("login", username=user.username, password=user.password).json
    assert session["user"]["roles"] == ["operator", "user"]


@pytest.mark.parametrize(
    "body", [{"roles": []}, {"roles": ["king"]}, {"roles": "admin"}, {"isActive": "perhaps"}, {"x": 1}]
)
def test_nonsense_is_refused(make_user, change, admin, body):
    user = make_user(organization=admin.organization_id)
    assert change(user.id, admin, **body).status_code == 422


def test_other_tenants_users_do_not_exist(make_user, change, admin):
    stranger = make_user()
    answer = change(stranger.id, admin, roles=["admin"])
    assert (answer.status_code, answer.json["code"]) == (404, "user_not_found")
    assert change(uuid4(), admin, isActive=False).status_code == 404


def test_an_administrator_cannot_lock_himself_out(change, admin):
    for body in ({"roles": ["user"]}, {"isActive": False}):
        answer = change(admin.id, admin, **body)
        assert (answer.status_code, answer.json["code"]) == (409, "own_account")
    assert change(admin.id, admin, roles=["admin", "operator"]).status_code == 200


def test_one_who_is_administrator_no_more_may_not_although_his_token_says_so(make_user, change, admin):
    former = make_user(("admin",), admin.organization_id)
    assert change(former.id, admin, roles=["user"]).status_code == 200
    assert change(admin.id, former, roles=["user"]).status_code == 403


def test_two_who_demote_each_other_leave_one(app, make_user, admin, at_once):
    other = make_user(("admin",), admin.organization_id)
    pairs = iter([(admin, other), (other, admin)])

    def demote() -> int:
        victim, actor = next(pairs)
        path = f"/api/admin/users/{victim.id}"
        return app.test_client().patch(path, json={"roles": ["user"]}, headers=actor.headers).status_code

    assert sorted(at_once(2, demote)) == [200, 403]


def test_deactivation_ends_the_sessions(client, post, make_user, change, admin):
    user = make_user(organization=admin.organization_id)
    session = post("login", username=user.username, password=user.password).json
    assert change(user.id, admin, isActive=False).json["isActive"] is False
    assert post("refresh", refreshToken=session["refreshToken"]).status_code == 401
    assert post("login", username=user.username, password=user.password).status_code == 403
    assert change(user.id, admin, isActive=True).json["isActive"] is True
    assert post("login", username=user.username, password=user.password).status_code == 200
    assert post("refresh", refreshToken=session["refreshToken"]).status_code == 401


def test_changes_are_on_record(client, make_user, change, admin):
    user = make_user(organization=admin.organization_id)
    change(user.id, admin, roles=["operator"])
    change(user.id, admin, roles=["operator"])
    log = client.get("/api/admin/audit-log?action=user.change", headers=admin.headers).json["data"]
    assert [(entry["actorId"], entry["targetId"]) for entry in log] == [(str(admin.id), str(user.id))]
    assert log[0]["details"] == {
        "before": {"roles": ["user"], "isActive": True},
        "after": {"roles": ["operator"], "isActive": True},
    }
