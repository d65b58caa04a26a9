"""The Flask application of a worker process: settings, database and notifier, without routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from flask import Flask, has_app_context

from service import create_app
from service.settings import Settings


@cache
def flask_app() -> Flask:
    """The application, made when it is first needed."""
    return create_app(Settings.from_env(), serves=False)


@contextmanager
def in_application() -> Iterator[None]:
    """Run in the application's context: the present one, or where there is none, one of its own."""
    if has_app_context():
        yield
    else:
        with flask_app().app_context():
            yield
