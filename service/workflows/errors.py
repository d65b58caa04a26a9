"""What can go wrong with workflows."""

from __future__ import annotations

from service.errors import Conflict, NotFound


class WorkflowNotFound(NotFound):
    """There is no such workflow."""

    code = "workflow_not_found"


class WorkflowNotCancellable(Conflict):
    """The workflow has ended."""

    code = "workflow_not_cancellable"


class WorkflowNotRetryable(Conflict):
    """Nothing of this workflow has failed or was cancelled."""

    code = "workflow_not_retryable"
