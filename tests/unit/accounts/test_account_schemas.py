"""What the accounts API takes for an address, a name, a time zone."""

from __future__ import annotations

import marshmallow as ma
import pytest

from service.accounts.schemas import AccountChangeSchema, ForgotSchema


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("Ann@Example.com", "ann@example.com"),
        ("  ann@example.com", None),
        ("ann@localhost", "ann@localhost"),
        ("ann@mail.corp.local", "ann@mail.corp.local"),
        ("ann+jobs@example.com", "ann+jobs@example.com"),
        ("ann", None),
        ("@example.com", None),
        ("ann@exam ple.com", None),
        ("ann@example.com\nBcc: all@example.com", None),
        ("Ann <ann@example.com>", None),
    ],
)
def test_addresses(given, normal):
    if normal is None:
        with pytest.raises(ma.ValidationError):
            ForgotSchema().load({"email": given})
    else:
        assert ForgotSchema().load({"email": given}) == {"email": normal}


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_time_zones(name):
    assert AccountChangeSchema().load({"timezone": name}) == {"timezone": name}


@pytest.mark.parametrize("name", ["", "Europe", "europe/berlin", "../UTC", "/etc/localtime", "localtime", "x" * 300])
def test_no_time_zones(name):
    with pytest.raises(ma.ValidationError):
        AccountChangeSchema().load({"timezone": name})
