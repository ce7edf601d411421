"""Writes a `YolosNetwork` as an ONNX graph, which OpenVINO and ONNX Runtime read.

Written node by node from the network's own weights rather than traced: it takes hundredths of a
second, so that nothing has to be kept on disk, and has what the network has: 8-bit pixels with
normalisation in the first product, fused attention, the last layer for the detection tokens alone.
Images of every shape go through one graph: position embeddings are an input of it.

Inputs: `patches` (N, patches, patch * patch * 3) 8-bit; `positions` (1, tokens, hidden); and, for
checkpoints that have them, `middle_positions` (layers - 1, 1, tokens, hidden). Outputs: `logits`
and `boxes`, as those of `YolosNetwork`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from app.inference.detector_backends.base import BackendUnavailableError
from app.inference.yolos_network import Layer, Linear, Norm, YolosNetwork
from app.inference.yolos_positions import PositionEmbeddings

# The first opset with attention as one node; ONNX 1.18's file format.
OPSET = 23
IR_VERSION = 11
# Of the activations that checkpoints name; all published YOLOS have `gelu`.
_ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}
_END = 2**31 - 1


class GraphWriter:
    """An ONNX graph in the making, and what runtimes want written in their own way."""

    def __init__(self, *, quantise: bool) -> None:
        """`quantise`: weights of the encoder's products as 8-bit integers, a scale a column."""
        self.quantise = quantise
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    # -- what a runtime may write differently ------------------------------------------------

    def attend(self, query: str, key: str, value: str, heads: int) -> str:
        """Attention over (N, tokens, hidden) in `heads` parts."""
        return self.add("Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads)

    def multiply_quantised(
        self, values: str, weight: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]
    ) -> str:
        """`values` times an (in, out) weight whose column i is `weight[:, i] * scale[i]`."""
        restored = self.add("DequantizeLinear", self.constant(weight), self.constant(scale), axis=1)
        return self.add("MatMul", values, restored)

    # -- parts ---------------------------------------------------------------------------------

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node of one output; return the output's name."""
        (output,) = self.split(kind, *inputs, parts=1, domain=domain, **attributes)
        return output

    def split(
        self, kind: str, *inputs: str, parts: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node of several outputs; return their names."""
        outputs = [f"{kind}_{len(self._nodes)}_{part}" for part in range(parts)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Append a constant; return its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, part: Linear, values: str, *, quantise: bool = False) -> str:
        weight = _to_numpy(part.weight).T
        if quantise:
            scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / 127
            quantised = np.rint(weight / scale).astype(np.int8)
            product = self.multiply_quantised(values, quantised, scale.astype(np.float32))
        else:
            product = self.add("MatMul", values, self.constant(weight))
        if part.bias is None:
            return product
        return self.add("Add", product, self.constant(_to_numpy(part.bias)))

    def norm(self, part: Norm, values: str) -> str:
        weight, bias = (self.constant(_to_numpy(one)) for one in (part.weight, part.bias))
        return self.add("LayerNormalization", values, weight, bias, axis=-1, epsilon=part.epsilon)

    def perceive(self, parts: Sequence[Linear], values: str) -> str:
        for part in parts[:-1]:
            values = self.add("Relu", self.linear(part, values))
        return self.linear(parts[-1], values)

    # -- the network ---------------------------------------------------------------------------

    def write(self, network: YolosNetwork) -> bytes:
        """The whole graph of a float32 network. Raises `BackendUnavailableError`."""
        if network.activation not in _ACTIVATIONS:
            raise BackendUnavailableError(
                f"checkpoints with the activation {network.activation!r} are computed by PyTorch "
                "alone; set DETECTION_BACKEND=torch"
            )
        tokens = self._embed(network)
        for index, layer in enumerate(network.layers[:-1]):
            tokens = self._layer(layer, tokens, network)
            if network.positions.has_middle:
                middle = self.add(
                    "Gather", "middle_positions", self.constant(np.array(index, np.int64))
                )
                tokens = self.add("Add", tokens, middle)
        found = self.norm(network.norm, self._layer(network.layers[-1], tokens, network, last=True))
        logits = self.perceive(network.classifier, found)
        boxes = self.add("Sigmoid", self.perceive(network.box_predictor, found))
        return self._finish(network, logits, boxes)

    def _embed(self, network: YolosNetwork) -> str:
        patches = self.add("Cast", "patches", to=TensorProto.FLOAT)
        count = self.add("Gather", self.add("Shape", "patches"), self.integers(0))
        tokens = self.add(
            "Concat",
            self._repeat(network.class_token, count),
            self.linear(network.projection, patches),
            self._repeat(network.detection_tokens, count),
            axis=1,
        )
        return self.add("Add", tokens, "positions")

    def _repeat(self, tokens: Tensor, count: str) -> str:
        _, length, hidden = tokens.shape
        shape = self.add("Concat", count, self.integers(length, hidden), axis=0)
        return self.add("Expand", self.constant(_to_numpy(tokens)), shape)

    def _layer(
        self, layer: Layer, tokens: str, network: YolosNetwork, *, last: bool = False
    ) -> str:
        normed = self.norm(layer.norm_before, tokens)
        if last:
            # Nothing reads the other tokens.
            wanted = (self.integers(-network.queries), self.integers(_END), self.integers(1))
            tokens = self.add("Slice", tokens, *wanted)
            query = self._multiply(layer.query, self.add("Slice", normed, *wanted))
            joined = self._multiply(layer.key_value, normed)
            key, value = self.split("Split", joined, parts=2, axis=-1, num_outputs=2)
        else:
            joined = self._multiply(layer.query_key_value, normed)
            query, key, value = self.split("Split", joined, parts=3, axis=-1, num_outputs=3)
        attended = self.attend(query, key, value, layer.heads)
        tokens = self.add("Add", tokens, self._multiply(layer.attention_output, attended))
        wide = self._multiply(layer.widen, self.norm(layer.norm_after, tokens))
        active = self.add(_ACTIVATIONS[network.activation], wide)
        return self.add("Add", tokens, self._multiply(layer.narrow, active))

    def _multiply(self, part: Linear, values: str) -> str:
        return self.linear(part, values, quantise=self.quantise)

    def _finish(self, network: YolosNetwork, logits: str, boxes: str) -> bytes:
        for found, name in ((logits, "logits"), (boxes, "boxes")):
            self._nodes.append(helper.make_node("Identity", [found], [name]))
        labels, hidden = network.classifier[-1].weight.shape
        values = network.projection.weight.shape[1]
        declare = helper.make_tensor_value_info
        inputs = [
            declare("patches", TensorProto.UINT8, ["n", "patches", values]),
            declare("positions", TensorProto.FLOAT, [1, "tokens", hidden]),
        ]
        if network.positions.has_middle:
            shape: list[str | int | None] = [len(network.layers) - 1, 1, "tokens", hidden]
            inputs.append(declare("middle_positions", TensorProto.FLOAT, shape))
        outputs = [
            declare("logits", TensorProto.FLOAT, ["n", network.queries, labels]),
            declare("boxes", TensorProto.FLOAT, ["n", network.queries, 4]),
        ]
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(self._nodes, "yolos", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())


class GraphInputs:
    """Makes the graph's inputs of images."""

    def __init__(self, patch: int, positions: PositionEmbeddings) -> None:
        """`positions` in float32, on the CPU."""
        self._patch = patch
        self._positions = positions

    def of(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """`pixels`: (N, height, width, 3), both edges multiples of the patch."""
        count, height, width, channels = pixels.shape
        edge = self._patch
        patches = pixels.reshape(count, height // edge, edge, width // edge, edge * channels)
        patches = patches.swapaxes(2, 3).reshape(count, -1, edge * edge * channels)
        initial, middle = self._positions.find(height, width)
        inputs: dict[str, npt.NDArray[Any]] = {"patches": patches, "positions": initial.numpy()}
        if middle is not None:
            inputs["middle_positions"] = middle.numpy()
        return inputs


def _to_numpy(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
