"""What a job gets to see that leaves an artifact."""

from __future__ import annotations

import pickle

import pytest
from celery.utils.serialization import get_pickleable_exception

from service.artifacts.errors import ArtifactTooLarge, InvalidArtifact, StorageFull, TooManyArtifacts
from tasks.outcome import describe


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (InvalidArtifact("words"), "invalid_artifact", False),
        (ArtifactTooLarge("words"), "artifact_too_large", False),
        (TooManyArtifacts("words"), "too_many_artifacts", False),
        (StorageFull(), "storage_full", True),
    ],
)
def test_it_survives_the_way_through_celery(error: Exception, code: str, retryable: bool) -> None:
    for copy in (get_pickleable_exception(error), pickle.loads(pickle.dumps(error))):
        assert describe(copy, ()) == {"code": code, "message": str(error), "retryable": retryable}
