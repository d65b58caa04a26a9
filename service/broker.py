"""Celery's broker on Redis, read the way it is read here: a message is gone from the broker once a worker has it."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class QoS(redis.QoS):
    """What is known of messages that were read and not acknowledged: nothing of those that need no acknowledgement.

    Kombu's own acknowledges these as well: a transaction on Redis for each message, and a note of it for ever.
    """

    def ack(self, delivery_tag: Any) -> None:
        """Acknowledge a message, if it is one that waits for this."""
        if delivery_tag in self._delivered:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """Give a message back or drop it, if it is one that waits for this."""
        if delivery_tag in self._delivered:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """A channel with the above."""

    QoS = QoS


class Transport(redis.Transport):
    """Kombu's Redis transport with such channels."""

    Channel = Channel
