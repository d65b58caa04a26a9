"""Submissions that are kept, to be made later and often: what schedules and templates have in common."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from service.errors import Conflict
from service.jobs.registry import get_job_type
from service.jobs.sealing import Unreadable, seal, unseal


class PayloadUnreadable(Conflict):
    """The payload cannot be opened: the key that it was sealed with is gone."""

    code = "payload_unreadable"


class KeptSubmission:
    """The columns of a table of kept submissions, each of a user."""

    user_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(Text)
    # As the client gave it; of a sensitive type sealed for the owner (`service.jobs.sealing`).
    payload: Mapped[dict[str, Any]]
    sensitive: Mapped[bool]
    # As the client gave them: what a type's defaults and this API mean is looked up with each submission.
    options: Mapped[dict[str, Any]]

    def keep(self, job_type: str, payload: dict[str, Any]) -> None:
        """Keep another type and payload; raises UnknownJobType."""
        self.type = job_type
        self.sensitive = get_job_type(job_type).sensitive
        self.payload = seal(payload, self.user_id) if self.sensitive else payload

    def opened_payload(self) -> dict[str, Any]:
        """The payload as it was given; raises PayloadUnreadable."""
        if not self.sensitive:
            return self.payload
        try:
            return dict(unseal(self.payload, self.user_id))
        except Unreadable:
            raise PayloadUnreadable from None

    def shown_payload(self, viewer_id: UUID) -> dict[str, Any] | None:
        """The payload for somebody who reads it: None of a sensitive type for all but the owner."""
        if self.sensitive and viewer_id != self.user_id:
            return None
        try:
            return self.opened_payload()
        except PayloadUnreadable:
            return None
