"""The key pair that the platform shows itself by to push services (VAPID, RFC 8292): made once, kept encrypted."""

from __future__ import annotations

from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from service.crypto import decrypt, encrypt
from service.database import transaction
from service.push.models import PlatformKey

VAPID = "vapid"


def make_vapid_key() -> None:
    """Make the key pair if there is none; of those who do so at the same moment one makes it for all."""
    with transaction() as session:
        if session.get(PlatformKey, VAPID) is None:
            row = {"name": VAPID, "value": encrypt(_new_pem())}
            session.execute(insert(PlatformKey).values(row).on_conflict_do_nothing())


def vapid_key() -> ec.EllipticCurvePrivateKey:
    """The private key; made now where nobody has made it before."""
    with transaction() as session:
        query = select(PlatformKey.value).where(PlatformKey.name == VAPID)
        stored = session.scalar(query)
        if stored is None:
            make_vapid_key()
            stored = session.scalars(query).one()
    key = load_pem_private_key(decrypt(stored).encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def public_key() -> str:
    """What a browser needs for its subscription as `applicationServerKey`: the point in URL-safe base64."""
    point = vapid_key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return urlsafe_b64encode(point).rstrip(b"=").decode()


def _new_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
