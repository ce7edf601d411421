"""Position embeddings of YOLOS, interpolated once for each input shape."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

# There are as many input shapes as aspect ratios: 1 MB each for yolos-tiny at 512, and 25 MB for
# the larger YOLOS, which have position embeddings between their layers too.
MAX_REMEMBERED_BYTES = 48 * 2**20


class PositionEmbeddings:
    """Those of a `YolosForObjectDetection`, by input shape, the last used ones remembered."""

    def __init__(self, checkpoint: Any, *, device: torch.device, dtype: torch.dtype) -> None:
        embeddings = checkpoint.vit.embeddings
        self._trained = embeddings.position_embeddings
        self._interpolation = embeddings.interpolation
        self._middle_interpolation = checkpoint.vit.encoder.interpolation
        self._device = device
        self._dtype = dtype
        self._remembered: OrderedDict[tuple[int, int], tuple[Tensor, Tensor | None]] = OrderedDict()
        self.remembered_bytes = 0
        """What the embeddings of the input shapes that were used last take."""

    @property
    def has_middle(self) -> bool:
        """Whether there are embeddings between the layers too."""
        return self._middle_interpolation is not None

    def find(self, height: int, width: int) -> tuple[Tensor, Tensor | None]:
        """For an input of this size in pixels: those at the entrance, (1, tokens, hidden), and
        those behind each layer but the last, (layers - 1, 1, tokens, hidden), or None."""
        size = (height, width)
        found = self._remembered.get(size)
        if found is not None:
            self._remembered.move_to_end(size)
            return found
        found = self._remembered[size] = self._interpolate(size)
        self.remembered_bytes += _count_bytes(found)
        while self.remembered_bytes > MAX_REMEMBERED_BYTES and len(self._remembered) > 1:
            _, forgotten = self._remembered.popitem(last=False)
            self.remembered_bytes -= _count_bytes(forgotten)
        return found

    def _interpolate(self, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        with torch.inference_mode():
            initial = self._to(self._interpolation(self._trained, size))
            if self._middle_interpolation is None:
                return initial, None
            return initial, self._to(self._middle_interpolation(size))

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._device, self._dtype).contiguous()


def _count_bytes(tensors: tuple[Tensor, Tensor | None]) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
