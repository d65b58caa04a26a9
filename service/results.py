"""Celery's results in Redis, written the way they are read here: by rescues and by who polls, never awaited."""

from __future__ import annotations

from typing import Any

import structlog
from celery.backends.redis import RedisBackend
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class ResultBackend(RedisBackend):  # type: ignore[misc]  # Celery publishes no types
    """Celery's Redis backend without what serves `AsyncResult.get()`.

    Celery's own subscribes the sender of each task to its result and never lets go, reads the stored state before it
    writes the next one, and publishes each. Nobody waits for results here, and the fence says which write counts.
    """

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing: no subscription."""

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        try:
            self._set(self.get_key_for_task(task_id), self.encode(meta))
        except (RedisError, OSError) as error:
            # Raised, it would make Celery take a job that succeeded for one that failed.
            log.warning("result_not_stored", task_id=task_id, error=str(error))
        return result

    def _set(self, key: Any, value: Any, expires: int | None = None) -> None:
        self.client.set(key, value, ex=expires or self.expires)
