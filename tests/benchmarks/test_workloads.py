import json
from pathlib import Path

import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.fleet import text_model_file
from benchmarks.images import FoundObject, agreement, make_frames
from benchmarks.texts import SLOT, fill_slot, make_text_workload, make_texts

VECTORIZER = TfidfVectorizer().fit(["cpu memory", "cpu ram disk", "prayer church"])


def test_texts_are_as_long_as_posts_with_one_slot_each() -> None:
    texts = make_texts(VECTORIZER, 50)

    assert all(200 <= len(text) <= 1500 and text.count(SLOT) == 1 for text in texts)
    assert len(set(texts)) == 50


def test_texts_are_the_same_each_time() -> None:
    assert make_texts(VECTORIZER, 3) == make_texts(VECTORIZER, 3)


def test_a_filled_slot_keeps_the_length() -> None:
    # wrk announces the length of the body before it knows the number.
    assert fill_slot(f"a {SLOT} b", 42) == "a 00000000000042 b"
    assert len(fill_slot(SLOT, 10 ** len(SLOT) - 1)) == len(SLOT)


def test_the_bodies_are_json_and_the_samples_are_answered(tmp_path: Path) -> None:
    workload = make_text_workload(text_model_file(), tmp_path, count=5)

    bodies = [json.loads(line) for line in workload.distinct.read_text().splitlines()]
    assert all(SLOT in body["text"] for body in bodies)
    assert SLOT not in workload.fixed.read_text()
    assert len(workload.categories) == len(workload.samples) == 5
    assert set(workload.categories) <= {
        "comp.sys.mac.hardware",
        "sci.crypt",
        "soc.religion.christian",
        "talk.religion.misc",
    }


def test_frames_are_jpegs_that_differ(tmp_path: Path) -> None:
    paths = make_frames(tmp_path / "frames", count=3)

    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (640, 480))
    assert len({path.read_bytes() for path in paths}) == 3


CAT = FoundObject((10, 20, 110, 220), "cat", 0.95)
DOG = FoundObject((300, 20, 400, 220), "dog", 0.9)
UNSURE = FoundObject((0, 0, 50, 50), "bird", 0.72)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([CAT, DOG], 1),
        ([DOG, CAT, UNSURE], 1),
        ([CAT], 0.5),
        ([], 0),
        ([FoundObject((12, 20, 105, 225), "cat", 0.93), DOG], 1),
        ([FoundObject((90, 20, 190, 220), "cat", 0.95), DOG], 0.5),
        ([FoundObject(CAT.box, "dog", 0.95), DOG], 0.5),
        ([FoundObject(CAT.box, "cat", 0.75), DOG], 0.5),
    ],
)
def test_agreement_counts_clear_objects_that_were_found(
    found: list[FoundObject], expected: float
) -> None:
    assert agreement([CAT, DOG, UNSURE], found) == expected


def test_boxes_beyond_the_image_are_compared_clipped() -> None:
    clipped = FoundObject((0, 0, 640, 480), "sofa", 0.9)
    unclipped = FoundObject((-80, -3, 800, 700), "sofa", 0.9)

    assert agreement([clipped], [unclipped]) == 1
