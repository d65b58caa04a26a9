"""The AsyncAPI document: all that the sockets and streams say and take."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter

from service.realtime.channels import SOCKETS, STREAMS, channels
from service.realtime.messages import about
from service.realtime.schemas import Shape
from service.realtime.sessions import AUTHENTICATE_SECONDS, EXPIRY_WARNING_SECONDS

Document = dict[str, Any]

ABOUT = f"""What Carillon tells as it happens, over Socket.IO and as Server-Sent Events.

**Numbers.** A message of a user's own has a number, `<epoch>-<seq>`: on sockets `eventId` in its data, on streams the
`id:` of the event. Within an epoch each message of the default namespace counts up by one. A client that connects
again tells the last number it has heard (`auth.lastEventId`, or the header `Last-Event-ID`), gets what it missed, in
order, and then `resumed`. `resumed {{recovered: false}}`, which may come at any other moment too, says that something
is missing: read the present state over REST, once. The rooms of jobs have no numbers.

**Acknowledgements.** Each event that a client emits is acknowledged with `{{ok: true, …}}` or `{{ok: false, error}}`.

**Tokens.** A socket that connects without a token has {AUTHENTICATE_SECONDS} seconds to `authenticate`. `auth:expiring`
asks for a new one {EXPIRY_WARNING_SECONDS} seconds before its token runs out; whoever gives none is disconnected.
"""

SECURITY: Document = {
    "handshake": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token, as `auth.token` of the packet that connects to a namespace",
    },
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ticket": {
        "type": "httpApiKey",
        "name": "ticket",
        "in": "query",
        "description": "Opens one stream, within 30 seconds; from POST /api/auth/stream-ticket",
    },
}


def asyncapi_document(host: str, *, is_secure: bool) -> Document:
    """The document, with `host` (name and port) as the place where it is all to be had."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Carillon", "version": "v1", "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": _servers(host, is_secure=is_secure),
        **_body(),
    }


def _servers(host: str, *, is_secure: bool) -> Document:
    return {
        SOCKETS: {
            "host": host,
            "pathname": "/socket.io/",
            "protocol": "wss" if is_secure else "ws",
            "description": "Socket.IO (protocol 5): for its client libraries, not for a bare WebSocket.",
            "security": [_security("handshake")],
        },
        STREAMS: {
            "host": host,
            "protocol": "https" if is_secure else "http",
            "description": "Server-Sent Events: each address is read with GET.",
            "security": [_security("bearer"), _security("ticket")],
        },
    }


def _security(name: str) -> Document:
    return {"$ref": f"#/components/securitySchemes/{name}"}


@cache
def _body() -> Document:
    everything = channels()
    messages = {message.key: message for channel in everything for message in channel.messages}
    return {
        "channels": {channel.key: channel.entry for channel in everything},
        "operations": {name: entry for channel in everything for name, entry in channel.operations.items()},
        "components": {
            "schemas": _json_schemas(shape for message in messages.values() for shape in message.shapes),
            "messages": {key: message.entry for key, message in messages.items()},
            "securitySchemes": SECURITY,
        },
    }


def _json_schemas(shapes: Iterable[Shape]) -> Document:
    """The shapes, and those that they are made of, as JSON Schemas that allow nothing else."""
    plugin = MarshmallowPlugin()
    # The first version of OpenAPI whose schemas are JSON Schemas.
    spec = APISpec(title="", version="", openapi_version="3.1.0", plugins=[plugin])
    converter = plugin.converter
    assert isinstance(converter, OpenAPIConverter)
    for shape in shapes:
        converter.resolve_nested_schema(shape)  # type: ignore[no-untyped-call]  # apispec's own gap
    found: Document = spec.to_dict()["components"]["schemas"]
    for (shape, *_), name in converter.refs.items():
        found[name] |= {"description": about(shape), "additionalProperties": False}
    return found
