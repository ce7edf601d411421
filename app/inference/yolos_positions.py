"""Position embeddings of YOLOS, interpolated once for each input shape."""

from collections import OrderedDict

import torch
from torch import Tensor
from torch.nn import functional

from app.inference.yolos_checkpoint import Checkpoint

# There are as many input shapes as aspect ratios: 1 MB each for yolos-tiny at 512, and 25 MB for
# the larger YOLOS, which have position embeddings between their layers too.
MAX_REMEMBERED_BYTES = 48 * 2**20


class PositionEmbeddings:
    """Those of a checkpoint, by input shape, the last used ones remembered."""

    def __init__(self, checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> None:
        config = checkpoint.config
        self._patch: int = config.patch_size
        self._queries: int = config.num_detection_tokens
        height, width = config.image_size
        self._trained_shape = (height // self._patch, width // self._patch)
        self._trained = checkpoint.weights["vit.embeddings.position_embeddings"]
        self._trained_middle = checkpoint.middle_positions
        self._device = device
        self._dtype = dtype
        self._remembered: OrderedDict[tuple[int, int], tuple[Tensor, Tensor | None]] = OrderedDict()
        self.remembered_bytes = 0
        """What the embeddings of the input shapes that were used last take."""

    @property
    def has_middle(self) -> bool:
        """Whether there are embeddings between the layers too."""
        return self._trained_middle is not None

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
        shape = (size[0] // self._patch, size[1] // self._patch)
        with torch.inference_mode():
            initial = self._to(self._resize(self._trained, shape))
            if self._trained_middle is None:
                return initial, None
            resized = self._resize(self._trained_middle.squeeze(1), shape)
            return initial, self._to(resized.unsqueeze(1))

    def _resize(self, positions: Tensor, shape: tuple[int, int]) -> Tensor:
        """(N, tokens, hidden) for `shape` patches, down and across.

        As transformers' `InterpolateInitialPositionEmbeddings`: those of the patches bicubically,
        those of the class token before them and of the detection tokens behind as they are.
        """
        before, patches, behind = positions.tensor_split((1, -self._queries), dim=1)
        image = patches.transpose(1, 2).reshape(len(patches), -1, *self._trained_shape)
        resized = functional.interpolate(image, size=shape, mode="bicubic", align_corners=False)
        return torch.cat((before, resized.flatten(2).transpose(1, 2), behind), dim=1)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._device, self._dtype).contiguous()


def _count_bytes(tensors: tuple[Tensor, Tensor | None]) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
