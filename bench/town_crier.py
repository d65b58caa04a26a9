"""Tells many users something each second, spread evenly: what jobs of theirs would do that report once a second."""

from __future__ import annotations

import time

from bench.children import Parent
from service import create_app
from service.clock import isoformat, utcnow
from service.realtime.log import append
from service.settings import Settings

# Told together, as one look at the clock allows.
SLICE_SECONDS = 0.01


def main() -> None:
    """Tell for as many seconds as it is asked to, until the bench is gone."""
    parent = Parent()
    users = parent.first()["users"]
    with create_app(Settings.from_env(), serves=False).app_context():
        parent.say({})
        while True:
            for command in parent.commands():
                parent.say({"told": _tell(users, command["seconds"])})


def _tell(users: list[str], seconds: float) -> int:
    began = time.monotonic()
    told = 0
    while (gone := time.monotonic() - began) < seconds:
        due = int(gone * len(users))
        for number in range(told, due):
            _report(users[number % len(users)])
        told = due
        time.sleep(SLICE_SECONDS)
    return told


def _report(user_id: str) -> None:
    job = {"id": user_id, "type": "demo-steps", "name": "Demo", "status": "active"}
    # The moment travels where a number of the job's would.
    progress = {"current": 1, "total": time.time(), "percentage": 1, "message": "Step 1"}
    entry = {"event": "JobProgressed", "at": isoformat(utcnow()), "userId": user_id, "job": job, "progress": progress}
    append([(user_id, entry)])


if __name__ == "__main__":
    main()
