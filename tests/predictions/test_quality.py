"""The text model that ships is as good as its manifest says, through the service's own door."""

import asyncio
from typing import Any

import pytest
from sklearn.datasets import fetch_20newsgroups

from tests.support.quality import claimed_quality
from tests.support.service import Person

BATCH = 256


def held_out_posts(labels: list[str]) -> Any:
    """The test posts, where scikit-learn has them on this machine (SCIKIT_LEARN_DATA)."""
    try:
        return fetch_20newsgroups(subset="test", categories=labels, download_if_missing=False)
    except OSError:
        pytest.skip("scikit-learn has no 20 newsgroups here (SCIKIT_LEARN_DATA)")


async def test_held_out_posts_are_classified_as_well_as_claimed(person: Person) -> None:
    claim = claimed_quality("newsgroups")
    labels = (await person.http.get("/models/newsgroups")).json()["labels"]
    posts = await asyncio.to_thread(held_out_posts, labels)
    assert len(posts.data) == claim["size"]
    right = 0
    for start in range(0, len(posts.data), BATCH):
        answer = await person.http.post(
            "/predictions/batch",
            json={"texts": posts.data[start : start + BATCH]},
            headers={"X-No-Store": "1"},
        )
        assert answer.status_code == 200, answer.text
        truth = posts.target[start : start + BATCH]
        right += sum(
            one["category"] == posts.target_names[topic]
            for one, topic in zip(answer.json(), truth, strict=True)
        )
    assert right / len(posts.data) == pytest.approx(claim["value"], abs=5e-4)
