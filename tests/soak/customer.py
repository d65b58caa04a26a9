"""People who submit work from a thread each, and take no answer for a reason to ask again."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import requests

from tests.acceptance.platform import Person
from tests.soak.ledger import Ledger, Promise

# Of the submissions that were answered so many are sent again, as if the answer had been lost.
LOST_ANSWERS = 0.05
# A request is sent again for so long.
PATIENCE_SECONDS = 120.0
ERRAND_SECONDS = 0.4
Errand = Callable[[], bool]


class Customer:
    """Submits what `next_work` gives, and runs errands meanwhile: cancels and retries of what it has submitted."""

    def __init__(self, name: str, person: Person, ledger: Ledger, seed: int) -> None:
        self.person = person
        self.ledger = ledger
        self.random = random.Random(f"{seed} {name}")
        self._errands: list[tuple[float, Errand]] = []
        self._thread: threading.Thread | None = None
        self._name = name

    def start(self, next_work: Callable[[random.Random], Callable[[Customer], None] | None]) -> None:
        """Work in a thread until there is none and every errand is done."""
        self._thread = threading.Thread(target=self._work, args=(next_work,), name=self._name, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the thread."""
        assert self._thread
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.ledger.surprise(f"{self._name} is not done; errands left: {len(self._errands)}")

    def _work(self, next_work: Callable[[random.Random], Callable[[Customer], None] | None]) -> None:
        try:
            while (work := next_work(self.random)) is not None:
                work(self)
                self._run_errands()
            while self._errands:
                self._run_errands()
                time.sleep(ERRAND_SECONDS / 4)
        except Exception:
            self.ledger.surprise(traceback.format_exc())

    def job(
        self,
        kind: str,
        payload: dict[str, Any],
        options: dict[str, Any] | None = None,
        *,
        may_stand_for: bool = False,
        **promised: Any,
    ) -> str | None:
        """Submit a job; its id, or None where another one holds its key and may."""
        body = {"type": "demo-steps", "payload": payload, "options": options or {}}
        answer = self._submit("/api/jobs", body, (202, 200, 409) if may_stand_for else (202,))
        if answer is None:
            return None
        job_id = str(answer.json()["id"])
        if answer.status_code == 200:
            # Who submitted that one notes it.
            self.ledger.stood_for.add(job_id)
            return None
        self._promise(job_id, kind, promised)
        return job_id

    def batch(self, kind: str, payloads: Sequence[dict[str, Any]]) -> None:
        """Submit jobs in one request."""
        jobs = [{"type": "demo-steps", "payload": payload} for payload in payloads]
        answer = self._submit("/api/jobs/batch", {"jobs": jobs}, (202,))
        for job in answer.json()["data"] if answer is not None else ():
            self._promise(job["id"], kind, {})

    def workflow(self, kind: str, steps: Sequence[dict[str, Any]], status: str, **promised: dict[str, Any]) -> None:
        """Submit a workflow that has to end with this status; `promised` by ref what its jobs have to come to."""
        answer = self._submit("/api/workflows", {"name": kind, "steps": list(steps)}, (202,))
        if answer is None:
            return
        made = answer.json()
        self.ledger.workflows[made["id"]] = status
        ids = {ref: job["id"] for ref, job in made["jobs"].items()}
        for step in steps:
            parents = tuple(ids[ref] for ref in step.get("dependsOn", ()))
            self._promise(ids[step["ref"]], kind, {"parents": parents, **promised.get(step["ref"], {})})

    def _promise(self, job_id: str, kind: str, promised: dict[str, Any]) -> None:
        self.ledger.promise(Promise(job_id=job_id, owner=self.person.id, kind=kind, **promised))

    def _submit(self, path: str, body: dict[str, Any], may_answer: Sequence[int]) -> requests.Response | None:
        """The answer of 202, or 200 for a job that was there; None for another one, which may be or is a surprise."""
        headers = {"Idempotency-Key": str(uuid4())}
        answer = self.insist("POST", path, json=body, headers=headers)
        if answer.status_code not in may_answer:
            self.ledger.surprise(f"POST {path} {body} answered {answer.status_code}: {answer.text[:1500]}")
            return None
        if answer.status_code == 409:
            self.ledger.count(duplicates=1)
            return None
        self.ledger.count(submissions=1)
        if self.random.random() < LOST_ANSWERS:
            self.ledger.count(lost_answers=1)
            second = self.insist("POST", path, json=body, headers=headers)
            if second.status_code != 202 or _ids(second.json()) != _ids(answer.json()):
                self.ledger.surprise(f"POST {path} with the key again: {second.text[:300]}, before {answer.text[:300]}")
        return answer

    def later(self, errand: Errand, seconds: float) -> None:
        """Run an errand in so many seconds, and again until it returns True."""
        self._errands.append((time.monotonic() + seconds, errand))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; an answer of 409 means that a cancel without an answer has already ended it."""
        answer = self.insist("DELETE", f"/api/jobs/{job_id}", json={"reason": "no longer wanted"})
        if answer.status_code not in {200, 409}:
            self.ledger.surprise(f"DELETE of job {job_id} answered {answer.status_code}: {answer.text[:1500]}")
        return True

    def run_again(self, job_id: str) -> bool:
        """Retry a job by hand once it has failed; whether it needs no more looking after."""
        answer = self.insist("GET", f"/api/jobs/{job_id}")
        if answer.status_code != 200:
            self.ledger.surprise(f"GET of job {job_id} answered {answer.status_code}: {answer.text[:1500]}")
            return True
        status = answer.json()["status"]
        if status == "failed":
            answer = self.insist("POST", f"/api/jobs/{job_id}/retry")
            if answer.status_code not in {202, 409}:
                self.ledger.surprise(f"retry of job {job_id} answered {answer.status_code}: {answer.text[:1500]}")
        return bool(status == "completed")

    def insist(self, method: str, path: str, **request: Any) -> requests.Response:
        """The answer to a request, which is sent again while there is none or the platform is not to be had."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self.person.send(method, path, **request)
            except requests.RequestException as error:
                self.ledger.refuse(type(error).__name__)
                if time.monotonic() > ends:
                    raise
            else:
                if answer.status_code != 503 or time.monotonic() > ends:
                    return answer
                self.ledger.refuse("503")
            # Sooner than `Retry-After` asks for: the more often something is asked for, the more can go wrong.
            time.sleep(self.random.uniform(0.1, 0.5))

    def _run_errands(self) -> None:
        now = time.monotonic()
        due = [errand for at, errand in self._errands if at <= now]
        self._errands = [each for each in self._errands if each[0] > now]
        for errand in due:
            if not errand():
                self.later(errand, ERRAND_SECONDS)


def _ids(document: Any) -> list[str]:
    """Ids of the jobs in the answer to a submission."""
    if "data" in document:
        return [job["id"] for job in document["data"]]
    return [document["id"], *(job["id"] for job in document.get("jobs", {}).values())]
