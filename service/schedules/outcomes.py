"""What can become of a time of a schedule."""

from __future__ import annotations

SUBMITTED = "submitted"
# A unique job that there was stood for it.
EXISTING = "existing"
# By the overlap policy, or because another job holds the unique key.
SKIPPED = "skipped"
FAILED = "failed"
OUTCOMES = (SUBMITTED, EXISTING, SKIPPED, FAILED)
