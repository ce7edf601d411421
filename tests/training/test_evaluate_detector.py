import math

import numpy as np
import pytest

from training.average_precision import (
    Found,
    Truth,
    average_precision,
    box_iou,
    mean_average_precision,
    precision_recall,
)


def boxes(*corners: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(corners, dtype=np.float64).reshape(-1, 4)


def found(box: np.ndarray, labels: list[int], scores: list[float]) -> Found:
    return Found(box, np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64))


def truth(box: np.ndarray, labels: list[int]) -> Truth:
    return Truth(box, np.array(labels, dtype=np.int64))


def test_iou_of_half_shifted_boxes_is_a_third() -> None:
    overlap = box_iou(boxes((0, 0, 2, 2)), boxes((1, 0, 3, 2), (5, 5, 6, 6), (0, 0, 2, 2)))
    assert overlap[0] == pytest.approx([1 / 3, 0, 1])


def test_boxes_without_area_overlap_nothing() -> None:
    assert box_iou(boxes((1, 1, 1, 1)), boxes((1, 1, 1, 1)))[0, 0] == 0


def test_average_precision_interpolates_over_all_points() -> None:
    # Right, wrong, right of three: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
    scores, hits = np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1])
    assert average_precision(scores, hits, truths=3) == pytest.approx((1 + 2 / 3) / 3)


def test_a_later_higher_precision_lifts_the_earlier_one() -> None:
    # Wrong, right, right: precision 0, 1/2, 2/3; both hits count with 2/3.
    scores, hits = np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1])
    assert average_precision(scores, hits, truths=2) == pytest.approx(2 / 3)


def test_average_precision_sorts_by_score() -> None:
    scores, hits = np.array([0.1, 0.9]), np.array([0, 1])
    assert average_precision(scores, hits, truths=1) == 1


def test_nothing_found_is_zero_and_nothing_to_find_is_no_number() -> None:
    nothing = np.array([])
    assert average_precision(nothing, nothing.astype(np.int64), truths=2) == 0
    assert math.isnan(average_precision(nothing, nothing.astype(np.int64), truths=0))


def test_a_second_box_on_the_same_digit_is_wrong() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    pictures = [found(boxes(box, box), [3, 3], [0.9, 0.8])]
    wanted = [truth(boxes(box), [3])]
    assert precision_recall(pictures, wanted, 0.5, classes=10) == (0.5, 1.0)
    assert mean_average_precision(pictures, wanted, classes=10)[0] == 1


def test_the_right_place_with_the_wrong_label_is_wrong() -> None:
    box = boxes((0, 0, 10, 10))
    mean, each = mean_average_precision([found(box, [4], [0.9])], [truth(box, [9])], classes=10)
    assert mean == 0
    assert each[9] == 0
    assert math.isnan(each[4])


def test_a_box_of_another_picture_does_not_count() -> None:
    here, there = boxes((0, 0, 10, 10)), boxes((50, 50, 60, 60))
    pictures = [found(there, [1], [0.9]), found(here, [1], [0.8])]
    wanted = [truth(here, [1]), truth(there, [1])]
    assert mean_average_precision(pictures, wanted, classes=2)[0] == 0


def test_an_overlap_below_one_half_does_not_count() -> None:
    pictures = [found(boxes((0, 0, 10, 4.9), (0, 0, 10, 5)), [0, 1], [0.9, 0.9])]
    wanted = [truth(boxes((0, 0, 10, 10), (0, 0, 10, 10)), [0, 1])]
    assert mean_average_precision(pictures, wanted, classes=2)[1] == [0, 1]


def test_precision_and_recall_count_only_scores_from_the_threshold_on() -> None:
    pictures = [found(boxes((0, 0, 10, 10), (20, 20, 30, 30)), [1, 2], [0.7, 0.69])]
    wanted = [truth(boxes((0, 0, 10, 10), (20, 20, 30, 30)), [1, 2])]
    assert precision_recall(pictures, wanted, 0.7, classes=10) == (1.0, 0.5)
