"""Carillon: the application and its wiring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.settings import Settings


def create_app(settings: Settings, *, serves: bool = True) -> Flask:
    """The application: the database and the notifier, and where it `serves`, also REST and sockets.

    Workers and console commands need no routes, so they do not load them.
    """
    # Here, not above: `service.client` is of this package and wants none of it.
    from flask import Flask

    from service.database import db, migrate
    from service.jobs.dependencies import connect_dependencies
    from service.logs import configure_logs
    from service.notifier.dispatch import connect_notifier
    from service.workflows.actions import connect_workflows

    configure_logs(settings)
    app = Flask("service")
    app.extensions["carillon_settings"] = settings
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": settings.database_pool_size,
        # A connection beyond the pool would be opened, taught its statements and closed for each request of a rush.
        "max_overflow": 0,
        "pool_timeout": 5,
        # Errors are logged; e-mail addresses and hashes are not.
        "hide_parameters": True,
        "pool_use_lifo": True,
        "connect_args": {
            "connect_timeout": 3,
            "application_name": "carillon",
            # Prepared statements are planned once, not anew for the first five calls and then perhaps for each. None
            # runs for so long that compiling it would pay.
            "options": "-c timezone=UTC -c plan_cache_mode=force_generic_plan -c jit=off",
            # A half-open connection is noticed in about 20 s rather than in two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 2,
        },
    }
    db.init_app(app)
    migrate.init_app(app, db)
    connect_dependencies()
    connect_workflows()
    connect_notifier()
    if serves:
        from service.realtime import serve_sockets
        from service.web import configure_web

        configure_web(app, settings)
        serve_sockets(app, settings)
    return app
