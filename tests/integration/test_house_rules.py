"""Rules of the house that reviewers forget and tests do not."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from itertools import pairwise

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask.testing import FlaskClient

import service.events
import service.realtime.vocabulary as vocabulary
from service.accounts.identity import PUBLIC_ENDPOINTS
from service.database import Base, db
from service.events import Event, SendResolved, WebhookEvent
from service.jobs.registry import all_job_types
from service.queue import celery_app
from service.web import configure_web
from tests.conftest import MakeUser

# Who may be asked without credentials; a new entry needs a reason.
PUBLIC_PATHS = {
    "/",
    "/api/openapi.json",
    "/api/asyncapi.json",
    "/api/docs",
    "/api/docs/start.js",
    "/api/docs/<path:name>",
    "/api/health",
    "/api/health/live",
    "/api/health/jobs",
    "/api/health/websocket",
    "/api/auth/register",
    "/api/auth/login",
    "/api/auth/refresh",
    "/api/auth/logout",
    "/api/auth/password/forgot",
    "/api/auth/password/reset",
    # Who holds a mail may switch its like off.
    "/api/notifications/unsubscribe",
}


def test_every_route_wants_credentials_unless_it_is_listed(app: Flask) -> None:
    public = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint in PUBLIC_ENDPOINTS or getattr(app.view_functions[rule.endpoint], "is_public", False)
    }
    assert public == PUBLIC_PATHS


def test_a_route_that_is_not_public_answers_401(app: Flask, client: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        if rule.rule in PUBLIC_PATHS or rule.endpoint == "static":
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<uuid:{argument}>", "01890000-0000-7000-8000-000000000000")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = client.open(path, method=method)
            assert (answer.status_code, answer.get_json()["code"]) == (401, "not_authenticated"), (method, path)


def test_every_route_is_documented(app: Flask, client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").get_json()
    documented = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/api/") or rule.rule == "/api/openapi.json":
            continue
        path = rule.rule.replace("uuid:", "").replace("path:", "").replace("<", "{").replace(">", "}")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert (path, method) in documented
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            assert operation.get("summary"), f"{method} {path} has no summary"


def test_the_api_document_is_unambiguous(app: Flask) -> None:
    another = Flask("another")
    with warnings.catch_warnings():
        # apispec warns of two schemas that have one name, and documents one of them as the other.
        warnings.simplefilter("error")
        configure_web(another, app.extensions["carillon_settings"])
        another.extensions["carillon_settings"] = app.extensions["carillon_settings"]
        document = another.test_client().get("/api/openapi.json").get_json()
    assert "NewNotificationTemplate" in document["components"]["schemas"]


def test_the_models_are_what_the_migrations_make(app: Flask) -> None:
    # Also those that only workers load.
    for module in pkgutil.walk_packages(service.__path__, "service."):
        if module.name.endswith(".models"):
            importlib.import_module(module.name)
    with app.app_context(), db.engine.connect() as connection:

        def ours(_item: object, name: str | None, kind: str, *_: object) -> bool:
            return not (kind == "table" and name is not None and ("_p_" in name or name == "alembic_version"))

        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_queue_of_a_job_type_has_a_consumer(app: Flask) -> None:
    from devstack.programs import all_programs
    from devstack.settings import StackSettings

    commands = [program.command for program in all_programs(StackSettings.from_env({})).values()]
    served = {
        queue for command in commands for flag, value in pairwise(command) if flag == "-Q" for queue in value.split(",")
    }
    assert {queue.name for queue in celery_app.conf.task_queues} <= served
    assert {kind.queue for kind in all_job_types() if kind.queue} <= served


def test_every_domain_event_has_words_on_the_sockets() -> None:
    classes = [each for each in vars(service.events).values() if isinstance(each, type) and issubclass(each, Event)]
    roots = {base for each in classes for base in each.__mro__[1:]}
    # A notification is told by the channel that writes it, not by an event of its own; so is an endpoint in trouble,
    # and what became of something that was asked.
    events = {each for each in classes if each not in roots and not issubclass(each, (WebhookEvent, SendResolved))}
    told = {each.__name__ for each in events} | {"NotificationCreated"}
    assert told == set(vocabulary.TABLE[vocabulary.DEFAULT])
    assert all(set(words) <= told for words in [*vocabulary.TABLE.values(), vocabulary.JOB_ROOM])


def test_every_room_has_a_docstring(app: Flask) -> None:  # what workers import reads the settings
    for package in ("service", "tasks"):
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            assert importlib.import_module(module.name).__doc__, module.name


@pytest.mark.parametrize(("path", "kind"), [("/api/docs", "text/html"), ("/api/docs/swagger-ui.css", "text/css")])
def test_the_api_page_needs_nothing_from_elsewhere(client: FlaskClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    if kind == "text/html":
        assert "http://" not in answer.text
        assert "https://" not in answer.text


def test_an_answer_names_its_request(client: FlaskClient, make_user: MakeUser) -> None:
    answer = client.get("/api/jobs", headers={**make_user().headers, "X-Request-ID": "mine-1"})
    assert answer.headers["X-Request-ID"] == "mine-1"
    odd = client.get("/api/jobs", headers={"X-Request-ID": "x" * 100})
    assert odd.headers["X-Request-ID"] == odd.get_json()["requestId"] != "x" * 100
