"""Celery's results in Redis, written the way they are read here: by rescues and by who polls, never awaited."""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend


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
        self._set_with_state(self.get_key_for_task(task_id), self.encode(meta), state)
        return result

    def _set(self, key: Any, value: Any, expires: int | None = None) -> None:
        self.client.set(key, value, ex=expires or self.expires)
