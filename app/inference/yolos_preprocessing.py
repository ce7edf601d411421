"""The input of a YOLOS checkpoint: its size, and how 8-bit values are normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATCH = 16


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The checkpoint's preprocessor file, as far as it decides the input."""

    shortest_edge: int
    longest_edge: int
    scale: tuple[float, float, float]
    """Factor for each channel of the 8-bit values …"""
    shift: tuple[float, float, float]
    """… and what is added: normalisation as one multiply-add."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], input_size: int | None) -> "Preprocessing":
        """Read a `preprocessor_config.json` in its old (`size`: 800) or present form.

        `input_size` replaces the shortest edge; the longest keeps its ratio to it, as the
        authors' evaluation does.
        """
        size = config.get("size", 800)
        if isinstance(size, Mapping):
            shortest = int(size["shortest_edge"])
            longest = int(size.get("longest_edge", shortest * 1333 // 800))
        else:
            shortest, longest = int(size), int(config.get("max_size", 1333))
        if input_size is not None:
            longest = input_size * longest // shortest
            shortest = input_size
        rescale = float(config.get("rescale_factor", 1 / 255))
        if not config.get("do_rescale", True):
            rescale = 1.0
        means, deviations = [0.0] * 3, [1.0] * 3
        if config.get("do_normalize", True):
            means = list(config.get("image_mean", (0.485, 0.456, 0.406)))
            deviations = list(config.get("image_std", (0.229, 0.224, 0.225)))
        if len(means) != 3 or len(deviations) != 3:
            raise ValueError("image_mean and image_std need a value for each of three channels")
        scale = tuple(rescale / deviation for deviation in deviations)
        shift = tuple(-mean / dev for mean, dev in zip(means, deviations, strict=True))
        return cls(shortest, longest, scale, shift)  # type: ignore[arg-type]

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the input for an image of this size, in pixels.

        transformers' `get_size_with_aspect_ratio_yolos`: the shortest edge is met unless the
        longest would pass its limit, then both are cut to multiples of the patch. Unlike there,
        an edge is never less than one patch, so that a very thin image has an input too.
        """
        short, long = min(width, height), max(width, height)
        edge: float = self.shortest_edge
        if long / short * edge > self.longest_edge:
            edge = self.longest_edge * short / long
        scaled_short, scaled_long = round(edge), int(edge * long / short)
        if width < height:
            across, down = scaled_short, scaled_long
        elif height == scaled_short:
            across, down = width, height
        else:
            across, down = scaled_long, scaled_short
        return max(PATCH, across - across % PATCH), max(PATCH, down - down % PATCH)
