"""CUDA graphs: a forward pass recorded once for an input shape, and replayed as one launch.

For a small batch the network's two hundred kernels take less time than their launches from Python.
See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable

import torch
from loguru import logger
from torch import Tensor

from app.inference.yolos_network import YolosNetwork

Outputs = tuple[Tensor, Tensor]
Replay = Callable[[Tensor], Outputs]
Recorder = Callable[[YolosNetwork, Tensor], Replay]

# A larger batch keeps the card busy for longer than its launches take.
MAX_BATCH = 8
# Each has its own intermediate results on the card.
MAX_RECORDINGS = 16
_RECORD_AT_USE = 2
_WARM_UP_PASSES = 3
# A recording runs the same kernels; atomic sums may differ in their order.
_TOLERANCE = 1e-2


class RecordedNetwork:
    """A network that replays its recording where it has one of the input's shape.

    Used on the model's own thread alone. A shape is recorded at its second use, the least recently
    used recording makes room for it. Where recording fails, or its answer is not the network's,
    the network goes on as it is.
    """

    def __init__(self, network: YolosNetwork, record: Recorder) -> None:
        self.network = network
        self._record = record
        self._uses: Counter[tuple[int, ...]] = Counter()
        self._recordings: OrderedDict[tuple[int, ...], Replay] = OrderedDict()
        self._works = True

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the inputs that are replayed, the last used one at the end."""
        return list(self._recordings)

    def __call__(self, pixels: Tensor) -> Outputs:
        """As `YolosNetwork`; `pixels` on its device. The outputs hold until the next call."""
        shape = tuple(pixels.shape)
        replay = self._recordings.get(shape)
        if replay is not None:
            self._recordings.move_to_end(shape)
            return replay(pixels)
        if self._works and shape[0] <= MAX_BATCH:
            self._uses[shape] += 1
            if self._uses[shape] >= _RECORD_AT_USE:
                return self._record_shape(shape, pixels)
        return self.network(pixels)

    def _record_shape(self, shape: tuple[int, ...], pixels: Tensor) -> Outputs:
        expected = self.network(pixels)
        try:
            replay = self._record(self.network, pixels)
            found = replay(pixels)
            deviation = max(
                (one - other).abs().max().item() for one, other in zip(found, expected, strict=True)
            )
        # Whatever the driver says: the network itself has just answered.
        except Exception as error:
            self._works = False
            logger.warning("the detector's passes are not recorded: {!r}", error)
            return expected
        # Not `>`: NaN is no agreement.
        if not deviation <= _TOLERANCE:
            self._works = False
            logger.warning("a recorded pass is {:g} away from the network's own", deviation)
            return expected
        del self._uses[shape]
        while len(self._recordings) >= MAX_RECORDINGS:
            self._recordings.popitem(last=False)
        self._recordings[shape] = replay
        return expected


def record_cuda_graph(network: YolosNetwork, pixels: Tensor) -> Replay:
    """Record a pass on a CUDA device for inputs of the shape of `pixels`."""
    given = pixels.clone()
    # The graph reads them where they are: they must not be forgotten before it.
    _, height, width, _ = pixels.shape
    kept = network.positions.find(height, width)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(pixels.device):
        # What libraries set up at their first use cannot be recorded, and wants another stream.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_PASSES):
                network(given)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            outputs = network(given)

    def replay(new: Tensor, _kept: object = kept) -> Outputs:
        given.copy_(new, non_blocking=True)
        graph.replay()
        return outputs

    return replay
