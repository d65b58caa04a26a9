"""Shapes of what the sockets and streams say and take; the AsyncAPI document is made of them.

What a client should know of a message is the docstring of its schema.
"""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.jobs.schemas import JobErrorSchema, JobSchema, ProgressSchema
from service.jobs.states import STATUSES
from service.notifications.schemas import NotificationSchema, UnreadCountSchema
from service.web import ErrorSchema

TRUE = validate.Equal(True)
FALSE = validate.Equal(False)
PERCENTAGE = validate.Range(0, 100)


class NumberedSchema(ma.Schema):
    """What has a number on a socket."""

    eventId = ma.fields.String(
        validate=validate.Regexp(r"^[0-9]+-[0-9]+$"),
        metadata={"description": "`<epoch>-<seq>`, on sockets; a stream gives it as the `id:` of the event"},
    )


class AboutJobSchema(NumberedSchema):
    """What tells which job it is about."""

    jobId = ma.fields.UUID(required=True)
    jobName = ma.fields.String(required=True)


class ResultSchema(ma.Schema):
    """What a job has given."""

    result = ma.fields.Raw(
        required=True, allow_none=True, metadata={"description": "null for a sensitive job and for one too large"}
    )
    resultTruncated = ma.fields.Boolean(
        validate=TRUE, metadata={"description": "The result is too large for an event: read it with GET /api/jobs/{id}"}
    )


# The default namespace


class WholeJobSchema(JobSchema, NumberedSchema):
    """A job, also under the name that the other events have for its id."""

    jobId = ma.fields.UUID(required=True, metadata={"description": "The same as `id`"})


class JobCreatedSchema(WholeJobSchema):
    """A job was accepted."""


class JobStartedSchema(WholeJobSchema):
    """A worker began an attempt."""


class JobProgressedSchema(AboutJobSchema):
    """A running job has come further; at most ten of these a second and job, none after its end."""

    progress = ma.fields.Nested(ProgressSchema, required=True)
    percentage = ma.fields.Float(required=True, validate=PERCENTAGE)


class JobRetryingSchema(AboutJobSchema):
    """An attempt failed, and another will follow."""

    error = ma.fields.String(required=True, metadata={"description": "The message of the error"})
    attempt = ma.fields.Integer(required=True, metadata={"description": "The one that failed"})
    maxAttempts = ma.fields.Integer(required=True)
    nextAttemptAt = ma.fields.DateTime(required=True)


class JobCompletedSchema(AboutJobSchema, ResultSchema):
    """Final: the job has its result."""


class JobFailedSchema(AboutJobSchema):
    """Final, until somebody retries it: the job is a dead letter."""

    error = ma.fields.String(required=True, metadata={"description": "The message of the error"})
    errorCode = ma.fields.String(required=True)
    attempt = ma.fields.Integer(required=True)
    maxAttempts = ma.fields.Integer(required=True)
    canRetry = ma.fields.Boolean(required=True)


class JobCancelledSchema(AboutJobSchema):
    """Final, until somebody retries it: somebody cancelled the job."""

    reason = ma.fields.String(required=True, allow_none=True)


class JobStatusSchema(NumberedSchema):
    """A job has another status; follows the event that says why, if there is one."""

    jobId = ma.fields.UUID(required=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(STATUSES))
    progress = ma.fields.Nested(ProgressSchema, required=True, allow_none=True)


class NotifiedSchema(NotificationSchema, NumberedSchema):
    """There is something new in the inbox, or something that was snoozed is back."""


class NotificationUpdatedSchema(NotificationSchema, NumberedSchema):
    """A notification was archived or snoozed or taken back, or its matter was settled: this is how it is now."""


class InboxChangeSchema(NumberedSchema):
    """The user changed the inbox, perhaps on another device."""

    id = ma.fields.UUID(required=True, allow_none=True, metadata={"description": "null: all notifications"})


class NotificationReadSchema(InboxChangeSchema):
    """A notification was read, perhaps on another device."""


class NotificationUnreadSchema(InboxChangeSchema):
    """A notification was marked unread, perhaps on another device."""


class NotificationDeletedSchema(InboxChangeSchema):
    """A notification was deleted, perhaps on another device, or has expired."""


class QueueFiguresSchema(ma.Schema):
    """How a queue stands."""

    pending = ma.fields.Integer(required=True, metadata={"description": "Jobs that are queued"})
    processing = ma.fields.Integer(required=True, metadata={"description": "Jobs that are active"})
    ratePerMinute = ma.fields.Float(required=True, metadata={"description": "Attempts that ended in the last minute"})


class QueueStatsSchema(QueueFiguresSchema):
    """How all queues stand; for who runs the installation, at most once a second and only when it has changed."""

    perQueue = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Nested(QueueFiguresSchema), required=True)


# The rooms of jobs


class JobRoomProgressSchema(ma.Schema):
    """A job that the socket subscribed to has come further."""

    jobId = ma.fields.UUID(required=True)
    progress = ma.fields.Float(required=True, validate=PERCENTAGE)
    details = ma.fields.Nested(ProgressSchema, required=True)


class JobRoomCompletedSchema(ResultSchema):
    """A job that the socket subscribed to has its result."""

    jobId = ma.fields.UUID(required=True)


class JobRoomFailedSchema(ma.Schema):
    """A job that the socket subscribed to has failed."""

    jobId = ma.fields.UUID(required=True)
    error = ma.fields.String(required=True, metadata={"description": "The message of the error"})


# `/queue`


class QueueUpdateSchema(NumberedSchema):
    """Something happened to a job."""

    jobId = ma.fields.UUID(required=True)
    jobType = ma.fields.String(required=True)
    userId = ma.fields.UUID(required=True)
    progress = ma.fields.Float(required=True, validate=PERCENTAGE)
    stage = ma.fields.String(required=True, metadata={"description": "What is happening, for people"})
    timestamp = ma.fields.DateTime(required=True)


class QueueUpdateQueuedSchema(QueueUpdateSchema):
    """A job was accepted, or is to run again; place and wait are null where they are not known."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-queued"))
    queuePosition = ma.fields.Integer(required=True, allow_none=True)
    estimatedWaitSeconds = ma.fields.Float(required=True, allow_none=True)


class QueueUpdateStartedSchema(QueueUpdateSchema):
    """A worker began an attempt."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-started"))


class QueueUpdateProgressSchema(QueueUpdateSchema):
    """A running job has come further; `stage` is the message it gave."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-progress"))


class QueueUpdateCompletedSchema(QueueUpdateSchema, ResultSchema):
    """Final: the job has its result."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-completed"))


class ErrorOfJobSchema(JobErrorSchema):
    """Why a job failed."""

    class Meta:
        """S4 has two fields."""

        fields = ("code", "message")


class QueueUpdateFailedSchema(QueueUpdateSchema):
    """Final, until somebody retries it: the job has failed."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-failed"))
    error = ma.fields.Nested(ErrorOfJobSchema, required=True)


class QueueUpdateCancelledSchema(QueueUpdateSchema):
    """Final, until somebody retries it: somebody cancelled the job."""

    eventType = ma.fields.String(required=True, validate=validate.Equal("job-cancelled"))
    reason = ma.fields.String(required=True, allow_none=True)


# `/notifications`


class UnreadSchema(UnreadCountSchema, NumberedSchema):
    """How much of the inbox is unread: first as it is, without a number, then with each change."""


# What a connection, or a stream, says beside that


class JobNowSchema(JobSchema):
    """The job as it is, when its stream begins."""


class ConnectSchema(ma.Schema):
    """The packet that connects to a namespace, with what `auth` is in the client libraries."""

    token = ma.fields.String(metadata={"description": "Without one, `authenticate` has to follow within ten seconds"})
    lastEventId = ma.fields.String(
        allow_none=True, metadata={"description": "Of the last event that was heard: what was missed since comes first"}
    )


class RefusalSchema(ma.Schema):
    """The token is no good: the namespace stays closed."""

    message = ma.fields.String(required=True)
    data = ma.fields.Nested(ErrorSchema, required=True)


class AuthenticatedSchema(ma.Schema):
    """The socket is known by now, and hears what happens to its user."""

    userId = ma.fields.UUID(required=True)
    lastEventId = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The newest event there is: who was told nothing yet can resume from here"},
    )


class RecoveredSchema(ma.Schema):
    """Everything that was missed has been told again, in so many messages."""

    recovered = ma.fields.Boolean(required=True, validate=TRUE)
    count = ma.fields.Integer(required=True, validate=validate.Range(min=0))


class LostSchema(ma.Schema):
    """Something may have been missed that nobody can tell any more: read the present state over REST, once."""

    recovered = ma.fields.Boolean(required=True, validate=FALSE)


class ExpiringSchema(ma.Schema):
    """The token runs out: `authenticate` with a new one, or be disconnected."""

    expiresInSeconds = ma.fields.Integer(required=True, validate=validate.Range(min=0))


# What a client sends, and how it is acknowledged


class AuthenticateSchema(ma.Schema):
    """Tell who you are, if the handshake did not, or go on with a new token of the same user."""

    token = ma.fields.String(required=True)
    lastEventId = ma.fields.String(allow_none=True, metadata={"description": "As in the handshake"})


class SubscribeSchema(ma.Schema):
    """Join the room of a job."""

    jobId = ma.fields.UUID(required=True)


class UnsubscribeSchema(ma.Schema):
    """Leave the room of a job."""

    jobId = ma.fields.UUID(required=True)


class AcceptedSchema(ma.Schema):
    """It was done."""

    ok = ma.fields.Boolean(required=True, validate=TRUE)


class AuthenticationAcceptedSchema(AcceptedSchema):
    """It was done."""

    userId = ma.fields.UUID(required=True)
    lastEventId = ma.fields.String(
        allow_none=True, metadata={"description": "As in `authenticated`; not given where a token took another's place"}
    )


class SubscriptionAcceptedSchema(AcceptedSchema):
    """The socket follows the job, which is as it is now."""

    job = ma.fields.Nested(JobSchema, required=True)


class RefusedSchema(ma.Schema):
    """It was not done."""

    ok = ma.fields.Boolean(required=True, validate=FALSE)
    error = ma.fields.Nested(ErrorSchema, required=True)


Shape = type[ma.Schema]

# By the names of `service.realtime.vocabulary`, and in `/queue` by the `eventType`.
TOLD: dict[str, Shape] = {
    "job:created": JobCreatedSchema,
    "job:started": JobStartedSchema,
    "job:progress": JobProgressedSchema,
    "job:retrying": JobRetryingSchema,
    "job:completed": JobCompletedSchema,
    "job:failed": JobFailedSchema,
    "job:cancelled": JobCancelledSchema,
    "job:status": JobStatusSchema,
    "notification": NotifiedSchema,
    "notification:read": NotificationReadSchema,
    "notification:unread": NotificationUnreadSchema,
    "notification:deleted": NotificationDeletedSchema,
    "notification:updated": NotificationUpdatedSchema,
    "unread-count": UnreadSchema,
    "job:{jobId}:progress": JobRoomProgressSchema,
    "job:{jobId}:completed": JobRoomCompletedSchema,
    "job:{jobId}:failed": JobRoomFailedSchema,
    "job-queued": QueueUpdateQueuedSchema,
    "job-started": QueueUpdateStartedSchema,
    "job-progress": QueueUpdateProgressSchema,
    "job-completed": QueueUpdateCompletedSchema,
    "job-failed": QueueUpdateFailedSchema,
    "job-cancelled": QueueUpdateCancelledSchema,
}
