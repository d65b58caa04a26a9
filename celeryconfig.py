"""Celery: broker, queues, ticks. JSON only; the broker is a hint and SQL the truth, so nothing here keeps state."""

from __future__ import annotations

from kombu.entity import Queue
from kombu.transport import TRANSPORT_ALIASES

from service.settings import Settings

settings = Settings.from_env()

broker_url = settings.broker_url
# A Redis is spoken to by our own backend (see `service.results`); any other is Celery's business.
_own_backend = settings.result_backend.startswith(("redis://", "rediss://"))
result_backend = f"service.results.ResultBackend+{settings.result_backend}" if _own_backend else settings.result_backend

task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
enable_utc = True

# What a worker loads beside its tasks: job types and signal receivers.
imports = ("tasks.worker", "tasks.delivery", "tasks.dispatch", "tasks.housekeeping")

task_default_queue = settings.job_queues[0]
# On Redis without acknowledgements: they would cost it two transactions a message, to keep what SQL keeps anyway.
_is_redis = broker_url.startswith("redis")
# What stands behind redis://; it acknowledges nothing of what needs no acknowledgement (see `service.broker`).
TRANSPORT_ALIASES["redis"] = "service.broker:Transport"
_options = {"no_ack": _is_redis, "queue_arguments": {} if _is_redis else {"x-max-priority": 9}}
task_queues = [Queue(name, **_options) for name in (*settings.job_queues, "delivery", "housekeeping")]  # type: ignore[no-untyped-call]
task_create_missing_queues = False
task_routes = {
    "tasks.delivery.*": {"queue": "delivery"},
    "tasks.dispatch.*": {"queue": "housekeeping"},
    "tasks.housekeeping.*": {"queue": "housekeeping"},
}

# A job that a worker has taken is held by its lease in SQL, so the message may go at once.
task_acks_late = False
# A worker takes a message when it has a process free for it: what waits in the broker can still be overtaken.
worker_prefetch_multiplier = 1
# (RabbitMQ does so by acknowledgements, which cost it little.)
worker_disable_prefetch = _is_redis
worker_concurrency = settings.max_concurrent_jobs
worker_hijack_root_logger = False
worker_cancel_long_running_tasks_on_connection_loss = False
# SIGTERM lets running jobs finish.
worker_soft_shutdown_timeout = 0
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# A publish that fails is found again by `relay`; an HTTP request does not wait for a broker that is away.
task_publish_retry = False
broker_transport_options = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "priority_steps": list(range(10)),
    "queue_order_strategy": "priority",
    "sep": ":",
    "global_keyprefix": "carillon:broker:",
}
# A result that cannot be stored is not waited for: SQL has it.
redis_socket_timeout = 2
redis_socket_connect_timeout = 2
redis_retry_on_timeout = False
result_backend_transport_options = {"global_keyprefix": "carillon:results:"}
# Long enough for a rescue to find the result of a job whose end could not be written.
result_expires = 3600
result_extended = False
# Results are read from SQL; nobody waits on Celery's.
task_store_errors_even_if_ignored = False

timezone = "UTC"
# Ticks by seconds. One message for all that are due together: it costs beat, the broker and the worker more than most
# of the looks it asks for. What has waited for longer than its interval has been overtaken by the next one.
_ticks = {
    1.0: ("release_due", "expire_due", "wake_dispatch", "wake_deliveries", "release_messages", "run_schedules"),
    2.0: ("relay", "settle", "measure_queues"),
    5.0: ("rescue", "settle_untold", "return_snoozed", "expire_notifications"),
    10.0: ("alert_failures",),
    15.0: ("finish_workflows",),
    30.0: ("end_stray_messages",),
    300.0: ("prune",),
    3600.0: ("prepare_partitions",),
}
beat_schedule = {
    f"every {seconds:g} s": {
        "task": "tasks.housekeeping.attend",
        "args": names,
        "schedule": seconds,
        "options": {"expires": max(seconds, 2.0)},
    }
    for seconds, names in _ticks.items()
}
