"""Sample data for a first look: a small library of films and series, and a small database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from service.accounts.identity import Identity
from service.accounts.models import User
from service.connections.actions import create_connection
from service.connections.models import Connection
from service.database import db, transaction
from service.libraries.actions import create_library
from service.libraries.models import Library
from service.settings import current_settings

LIBRARY = "Sample library"
DATABASE = "Sample shop"

# Films that never were: what counts is how such files are named.
FILMS = (
    "The.Last.Lighthouse.1987.1080p.BluRay.x264.mkv",
    "Paper Moons (2011)/Paper Moons (2011) [720p].mp4",
    "Northbound.2019.2160p.WEB-DL.H265.mkv",
)
SERIES = tuple(
    f"Harbour Lights/Season {season}/Harbour.Lights.S{season:02}E{episode:02}.720p.HDTV.mkv"
    for season in (1, 2)
    for episode in range(1, 5)
)

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE);
CREATE TABLE products (id INTEGER PRIMARY KEY, title TEXT NOT NULL, price_cents INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id), placed_at TEXT);
CREATE TABLE order_lines (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    product_id INTEGER NOT NULL REFERENCES products (id), quantity INTEGER NOT NULL,
    PRIMARY KEY (order_id, product_id));
CREATE INDEX orders_by_customer ON orders (customer_id, placed_at);
CREATE VIEW revenue AS SELECT product_id, sum(quantity) AS sold FROM order_lines GROUP BY product_id;
"""


def create_sample_data(username: str) -> None:
    """Give a user a library and a connection; what is there already stays as it is."""
    user = db.session.scalars(select(User).where(User.username == username)).one()
    owner = Identity(user.id, user.organization_id, user.username, frozenset(user.roles), 0)
    settings = current_settings()
    with transaction() as session:
        if session.scalar(select(Library.id).where(Library.user_id == user.id, Library.name == LIBRARY)) is None:
            folder = settings.media_roots[0] / "samples"
            _make_library(folder)
            create_library(owner, name=LIBRARY, path=str(folder))
        if (
            session.scalar(select(Connection.id).where(Connection.user_id == user.id, Connection.name == DATABASE))
            is None
        ):
            file = settings.connection_sqlite_roots[0] / "sample-shop.db"
            _make_shop(file)
            create_connection(owner, name=DATABASE, url=f"sqlite:///{file}")


def _make_library(folder: Path) -> None:
    for name in (*FILMS, *SERIES):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def _make_shop(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(SHOP)
