"""The Flask application of a worker process: settings, database and notifier, without routes."""

from __future__ import annotations

from functools import cache

from flask import Flask

from service import create_app
from service.settings import Settings


@cache
def flask_app() -> Flask:
    """The application, made when it is first needed."""
    return create_app(Settings.from_env(), serves=False)
