"""Sending to many people at once, and what became of it."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

IS_LONG = os.environ.get("CARILLON_LONG") == "1"
# The outbox's first wait on the platform `notifying`.
MESSAGE_RETRY_SECONDS = 60 if IS_LONG else 3

NEWS = {"type": "informational", "title": "News", "message": "There is news."}


@dataclass(frozen=True)
class Crowd:
    """The users of an organization of their own, and one of them who sends to all."""

    platform: Platform
    admin: Person
    addresses: frozenset[str]

    @classmethod
    def of(cls, platform: Platform, count: int) -> Self:
        """So many users that nobody registers one by one; but for the sender they cannot log in."""
        admin = platform.stranger()
        rows = platform.records.rows(
            """
            INSERT INTO users (id, organization_id, username, email, password_hash, roles, timezone, is_active,
                created_at, updated_at)
            SELECT gen_random_uuid(), %s, name, name || '@example.com', '', '{user}', 'UTC', true, now(), now()
            FROM (SELECT %s || number AS name FROM generate_series(1, %s) AS number) AS made
            RETURNING email
            """,
            admin.get("/api/auth/me")["organizationId"],
            f"r{secrets.token_hex(6)}-",
            count - 1,
        )
        return cls(platform, admin, frozenset({admin.email, *(row["email"] for row in rows)}))

    def send(self, channel: str) -> Send:
        """Something is sent to all of them, under a title that nothing else has."""
        body = {**NEWS, "title": f"News {secrets.token_hex(4)}", "all": True, "channels": [channel]}
        accepted = self.admin.ask("POST", "/api/notifications", body, 202)
        return Send(self, accepted["id"], body["title"], accepted["jobs"][0]["jobId"])


@dataclass(frozen=True)
class Send:
    """Something that was sent to a crowd by one channel."""

    crowd: Crowd
    id: str
    title: str
    job_id: str

    @property
    def report(self) -> Any:
        """What its sender is told of it."""
        return self.crowd.admin.get(f"/api/notification-sends/{self.id}")

    def jobs(self) -> Counter[str]:
        """How many of its jobs, slices among them, have each status."""
        rows = self.crowd.platform.records.rows(
            "SELECT status, count(*) FROM jobs WHERE tags @> ARRAY[%s] GROUP BY 1", f"send:{self.id}"
        )
        return Counter({row["status"]: row["count"] for row in rows})

    def await_jobs(self, seconds: float) -> None:
        """Return when all its jobs are completed."""
        until(lambda: set(self.jobs()) == {"completed"}, lambda: f"all jobs completed; they are {self.jobs()}", seconds)

    def await_sent(self, seconds: float) -> None:
        """Return when all its messages have left."""
        records, count = self.crowd.platform.records, len(self.crowd.addresses)
        messages = "SELECT count(*) FROM channel_messages WHERE send_id = %s AND status = 'sent'"
        until(
            lambda: records.rows(messages, self.id)[0]["count"] == count,
            lambda: f"{count} messages sent; {self.report['perChannel']}",
            seconds,
        )
        (counted,) = self.report["perChannel"].values()
        assert {name: times for name, times in counted.items() if times} == {"sent": count}

    def written(self) -> int:
        """How many inboxes have it."""
        records = self.crowd.platform.records
        return int(records.rows("SELECT count(*) FROM notifications WHERE send_id = %s", self.id)[0]["count"])

    def end_leases(self) -> int:
        """While nobody sends: have what was under way when its sender was killed be due at once; how much that is.

        Else it would be left alone for three minutes.
        """
        rows = self.crowd.platform.records.rows(
            """
            UPDATE channel_messages SET next_attempt_at = now() WHERE send_id = %s AND status = 'sending' RETURNING id
            """,
            self.id,
        )
        return len(rows)

    def interrupted(self) -> set[str]:
        """The addresses whose message was begun more than once."""
        rows = self.crowd.platform.records.rows(
            "SELECT address FROM channel_messages WHERE send_id = %s AND attempts > 1", self.id
        )
        return {row["address"] for row in rows}
