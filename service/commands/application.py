"""What the commands of an installation share: its settings, its application, and sentences for what goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import marshmallow as ma
from dotenv import find_dotenv, load_dotenv
from psycopg2.errors import UndefinedTable
from sqlalchemy.exc import OperationalError, ProgrammingError

from service import create_app
from service.commands.refusals import BadSettings, Refused
from service.errors import CarillonError, flatten_messages
from service.settings import Settings, SettingsError


class InstallationCommand(click.Command):
    """A command that reads the settings; its failures are a sentence on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what can be expected to go wrong becomes a sentence."""
        load_dotenv(find_dotenv(usecwd=True))
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise BadSettings(str(error)) from None
        except OperationalError as error:
            raise Refused(f"The database cannot be used: {str(error.orig).strip().splitlines()[0]}") from None
        except ProgrammingError as error:
            if isinstance(error.orig, UndefinedTable):
                raise Refused("The database has no tables yet: run carillon migrate.") from None
            raise
        except ma.ValidationError as error:
            messages = flatten_messages(error.messages)
            raise Refused("; ".join(f"{name}: {' '.join(texts)}" for name, texts in messages.items())) from None
        except CarillonError as error:
            raise Refused(error.message) from None


@contextmanager
def application() -> Iterator[None]:
    """The application without routes, and without the log lines that only a server's log needs."""
    app = create_app(Settings.from_env(), serves=False)
    for name in ("alembic", "celery"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with app.app_context():
        yield
