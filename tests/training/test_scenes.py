import numpy as np
import pytest

from training.backgrounds import BackgroundBank, load_photos
from training.digits import Digits, load_digits, split_rows
from training.scenes import MAX_DIGITS, SceneMaker


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits("train")


@pytest.fixture(scope="module")
def backgrounds() -> BackgroundBank:
    return BackgroundBank(12, 128, seed=1, photos=load_photos(None, "train"))


def plain(level: int, side: int = 128) -> BackgroundBank:
    """A bank of one even grey, on which ink is all that stands out."""
    bank = BackgroundBank(1, side, seed=1, photos=[])
    bank.tiles[:] = level
    return bank


def test_the_split_holds_out_eighty_of_each_class() -> None:
    labels = np.repeat(np.arange(10), 500)
    train, test = split_rows(labels, "train"), split_rows(labels, "test")
    assert len(np.intersect1d(train, test)) == 0
    assert len(np.union1d(train, test)) == 5000
    assert np.bincount(labels[test]).tolist() == [80] * 10


def test_no_held_out_digit_is_among_the_training_digits(digits: Digits) -> None:
    held_out = load_digits("test")
    assert len(held_out) == 800
    assert len(digits) == 4200
    assert not set(held_out.rows.tolist()) & set(digits.rows.tolist())
    drawn = {row.tobytes() for row in digits.coarse.numpy()}
    # A digit of another row could be its twin, pixel for pixel; none is.
    assert not any(row.tobytes() in drawn for row in held_out.coarse.numpy())


def test_the_same_seed_gives_the_same_scenes(digits: Digits, backgrounds: BackgroundBank) -> None:
    first, again, other = (
        SceneMaker(digits, backgrounds, seed).compose(6, 96, 128) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.images, again.images)
    for left, right in zip(first.boxes, again.boxes, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first.images, other.images)


def test_the_same_seed_gives_the_same_backgrounds() -> None:
    photos = load_photos(None, "train")
    first, again = (BackgroundBank(8, 64, seed=3, photos=photos) for _ in range(2))
    np.testing.assert_array_equal(first.tiles, again.tiles)


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (240, 320)])
def test_boxes_are_whole_ordered_and_inside(digits: Digits, shape: tuple[int, int]) -> None:
    height, width = shape
    scenes = SceneMaker(digits, plain(128, max(shape)), seed=2).compose(40, height, width)
    assert scenes.images.shape == (40, height, width, 3)
    assert scenes.images.dtype == np.uint8
    assert sum(map(len, scenes.labels)) > 80
    for boxes, labels in zip(scenes.boxes, scenes.labels, strict=True):
        assert boxes.shape == (len(labels), 4)
        assert len(labels) <= MAX_DIGITS
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [width, height]).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()
        assert ((labels >= 0) & (labels <= 9)).all()


def test_no_digit_covers_another(digits: Digits) -> None:
    scenes = SceneMaker(digits, plain(128), seed=4).compose(60, 96, 128)
    for boxes in scenes.boxes:
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                assert (shared <= 0).any()


def test_boxes_are_tight_around_the_ink(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = SceneMaker(digits, plain(128), seed=8)
    # Without the camera's blur and noise, every pixel that differs from the ground is ink.
    monkeypatch.setattr(maker, "_photograph", lambda canvas: canvas)
    monkeypatch.setattr(maker, "_paste_card", lambda *_: None)
    scenes = maker.compose(120, 96, 128)
    checked = 0
    for image, boxes in zip(scenes.images, scenes.boxes, strict=True):
        ground = image[0, 0]
        if len(boxes) != 1:
            continue
        strength = np.abs(image.astype(np.float32) - ground).max(2)
        rows, columns = np.nonzero(strength > 0.5 * strength.max())
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0], tight, atol=2)
        checked += 1
    assert checked >= 5


def test_windows_hold_digits_as_large_as_in_the_whole_scene(digits: Digits) -> None:
    windows = SceneMaker(digits, plain(128), seed=9).compose(60, 48, 64, short_edge=96)
    sizes = np.concatenate([(boxes[:, 2:] - boxes[:, :2]).max(1) for boxes in windows.boxes])
    assert sizes.min() > 0.12 * 96
    assert np.median(sizes) > 0.19 * 96


def test_a_scene_larger_than_the_backgrounds_is_refused(
    digits: Digits, backgrounds: BackgroundBank
) -> None:
    with pytest.raises(ValueError, match="does not fit a tile"):
        SceneMaker(digits, backgrounds, seed=1).compose(1, 128, 160)


def test_training_and_testing_see_different_parts_of_a_photograph() -> None:
    for left, right in zip(load_photos(None, "train"), load_photos(None, "test"), strict=True):
        assert left.height == right.height
        assert left.width > right.width


def test_a_folder_of_photographs_that_is_not_there_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_photos(tmp_path / "nowhere", "train")
