"""One attempt at a delivery: the request that is made of its row, and the outcome that is made of the answer."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import structlog

from service.clock import utcnow
from service.crypto import decrypt
from service.database import Row
from service.settings import current_settings
from service.webhooks.headers import MASK
from service.webhooks.outbox import Attempted
from service.webhooks.payloads import body_of
from service.webhooks.schedule import PROXY_ATTEMPTS, classify, next_delay, proxy_delay
from service.webhooks.sender import OutboundRequest, Sender, SendOutcome
from service.webhooks.signing import sign

log = structlog.get_logger(__name__)


def attempt(row: Row, sender: Sender) -> Attempted:
    """Send a claimed delivery once; what goes wrong on our side is an outcome too."""
    try:
        own = _own_headers(row)
        request = _request(row, own)
        answer = sender.send(request)
        return _outcome(row, answer, {**_request_record(row, request, own), **_answer_record(answer)})
    except Exception:
        # A key that is gone, say: it must neither take others along nor be tried for ever.
        log.exception("delivery_broken", delivery_id=str(row["id"]))
        return _broken(row)


def _own_headers(row: Row) -> Mapping[str, str]:
    headers: Mapping[str, str] = {} if row["headers"] is None else json.loads(_decrypted(bytes(row["headers"])))
    return headers


def _request(row: Row, own: Mapping[str, str]) -> OutboundRequest:
    body = body_of(json.loads(row["payload"]), row["payload_format"])
    secrets, signing_keys = _keys(row)
    signature = sign(secrets, str(row["id"]), int(time.time()), body, signing_keys)
    return OutboundRequest(row["url"], body, {"Content-Type": "application/json", **own, **signature})


def _keys(row: Row) -> tuple[Sequence[str], Sequence[str]]:
    """The live secrets and signing keys of the endpoint, the newest first."""
    secrets = [bytes(row["secret"])]
    signing_keys = [] if row["signing_key"] is None else [bytes(row["signing_key"])]
    for old in json.loads(row["old"] or "[]"):
        secrets.append(old["secret"].encode())
        # Only where it still asks for them.
        if signing_keys and old["signingKey"] is not None:
            signing_keys.append(old["signingKey"].encode())
    return [_decrypted(secret) for secret in secrets], [_decrypted(key) for key in signing_keys]


@lru_cache(maxsize=4096)
def _decrypted(token: bytes) -> str:
    return decrypt(token)


def _request_record(row: Row, request: OutboundRequest, own: Mapping[str, str]) -> dict[str, Any]:
    headers = {name.lower(): MASK if name in own else value for name, value in request.headers.items()}
    return {"request_url": request.url, "request_headers": headers, "payload_format": row["payload_format"]}


def _answer_record(answer: SendOutcome) -> dict[str, Any]:
    return {
        "status_code": answer.status,
        "error_class": answer.error_class,
        "resolved_address": answer.address,
        "response_headers": answer.headers,
        "response_body": answer.body,
        "timings": answer.timings._asdict(),
    }


def _outcome(row: Row, answer: SendOutcome, record: Mapping[str, Any]) -> Attempted:
    verdict = classify(answer)
    if verdict == "success":
        return _attempted(row, "delivered", verdict, record)
    log.info("delivery_failed", delivery_id=str(row["id"]), status=answer.status, error_class=answer.error_class)
    if verdict == "proxy":
        log.warning("proxy_failed", error=answer.error)
        if row["free_attempts"] >= PROXY_ATTEMPTS:
            return _attempted(row, "failed", verdict, record)
        return _attempted(row, "pending", verdict, record, delay=proxy_delay(row["free_attempts"], _random))
    settings = current_settings()
    counted = row["attempts"] - row["free_attempts"]
    delay = next_delay(counted, answer, settings.webhook_schedule, settings.webhook_jitter, _random)
    status = "failed" if delay is None else "pending"
    return _attempted(row, status, verdict, record, delay=delay, retry_after=answer.retry_after or 0.0)


_random = random.Random()


def _broken(row: Row) -> Attempted:
    schedule = current_settings().webhook_schedule
    counted = row["attempts"] - row["free_attempts"]
    delay = schedule[counted] if counted < len(schedule) else None
    record = {"error_class": "internal_error", "payload_format": row["payload_format"], "timings": {}}
    return _attempted(row, "failed" if delay is None else "pending", "internal", record, delay=delay)


def _attempted(
    row: Row,
    status: str,
    verdict: str,
    record: Mapping[str, Any],
    *,
    delay: float | None = None,
    retry_after: float = 0.0,
) -> Attempted:
    return Attempted(
        delivery_id=str(row["id"]),
        webhook_id=str(row["webhook_id"]),
        attempt=row["attempts"],
        status=status,
        verdict=verdict,
        next_attempt_at=None if delay is None else utcnow() + timedelta(seconds=delay),
        record=record,
        is_free=verdict == "proxy",
        retry_after=retry_after,
    )
