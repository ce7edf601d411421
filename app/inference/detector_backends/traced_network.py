"""A forward pass as one call, during which Python's other threads go on.

The network is some three hundred operators, and after each its thread needs Python's lock for the
next. While the event loop is busy that takes up to five milliseconds each time, and a pass many
times as long (docs/adr/0054). A trace runs all of them without the lock.
"""

from collections.abc import Callable

import torch
from loguru import logger
from torch import Tensor

from app.inference.yolos_network import YolosNetwork

# Of the image that is traced, and number and size of some that the trace has not seen, in patches.
_TRACED_ROWS, _TRACED_COLUMNS = 3, 4
_CHECKED = (2, 5, 3)
# The same kernels run.
_TOLERANCE = 1e-4


Pass = Callable[[Tensor], tuple[Tensor, Tensor]]

# PyTorch keeps every trace and its weights until the process ends. A model that is loaded again,
# since its thread had died, gets the one it had.
_traces: list[tuple[YolosNetwork, Pass]] = []


def trace_network(network: YolosNetwork) -> Pass:
    """What answers as `network` does, for images of all shapes, without holding Python's lock.

    `network` itself where PyTorch cannot trace it or the trace answers otherwise: slow beside a
    busy event loop is better than not at all.
    """
    for earlier, traced in _traces:
        if earlier.equals(network):
            return traced
    try:
        with torch.inference_mode():
            traced = _trace(network)
            unseen = _noise(network, *_CHECKED)
            # PyTorch optimises a trace when it has seen a pass of it.
            traced(unseen)
            pairs = list(zip(traced(unseen), network(unseen), strict=True))
        agrees = all(torch.allclose(*pair, rtol=0, atol=_TOLERANCE) for pair in pairs)
    # Whatever PyTorch says: it no longer promises to trace every network.
    except Exception as error:
        logger.warning("the detector's passes are not traced: {!r}", error)
        return network
    if not agrees:
        logger.warning("traced passes of the detector are not used: they answer otherwise")
        return network
    _traces.append((network, traced))
    return traced


def _trace(network: YolosNetwork) -> Pass:
    find = network.positions.find
    pixels = _noise(network, 1, _TRACED_ROWS, _TRACED_COLUMNS)
    positions, middle = find(pixels.shape[1], pixels.shape[2])
    # A trace takes no None.
    if middle is None:
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            lambda pixels, positions: network.compute(pixels, positions, None),
            (pixels, positions),
            check_trace=False,
        )
        return lambda pixels: traced(pixels, find(pixels.shape[1], pixels.shape[2])[0])
    traced = torch.jit.trace(  # type: ignore[no-untyped-call]
        network.compute, (pixels, positions, middle), check_trace=False
    )
    return lambda pixels: traced(pixels, *find(pixels.shape[1], pixels.shape[2]))


def _noise(network: YolosNetwork, count: int, rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    shape = (count, rows * network.patch, columns * network.patch, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
