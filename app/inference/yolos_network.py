"""The YOLOS forward pass for inference: transformers' mathematics with less work.

- The patch projection is one matrix product on 8-bit pixels, normalisation folded in.
- Query, key and value are one matrix product.
- Position embeddings are interpolated once per input shape.
- The last layer is computed for the detection tokens alone: nothing reads the others.

In float32 no answer changes but by rounding; the tests compare it with
`YolosForObjectDetection`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from app.inference.device import DevicePlan
from app.inference.yolos_checkpoint import Checkpoint, Config
from app.inference.yolos_positions import PositionEmbeddings

# 16 MB in half precision.
_MOST_SCORES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Linear:
    """Weight (out, in) and bias (out,) of an affine map."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, values: Tensor) -> Tensor:
        """The product, in the precision of the weight, whatever that of `values` is."""
        return functional.linear(values.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalisation over the last dimension."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, values: Tensor) -> Tensor:
        return functional.layer_norm(
            values, self.weight.shape, self.weight, self.bias, self.epsilon
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer block, as YOLOS has it: normalisation before attention and before the MLP."""

    norm_before: Norm
    query: Linear
    key_value: Linear
    query_key_value: Linear
    attention_output: Linear
    norm_after: Norm
    widen: Linear
    narrow: Linear
    heads: int
    activation: Any
    attention_dtype: torch.dtype
    attend: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __call__(self, tokens: Tensor) -> Tensor:
        """(N, tokens, hidden) to the same."""
        count, length, hidden = tokens.shape
        projected = self.query_key_value(self.norm_before(tokens))
        parts = projected.view(count, length, 3, self.heads, hidden // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        return self._finish(tokens, query, key, value)

    def last(self, tokens: Tensor, queries: int) -> Tensor:
        """The block's output for the last `queries` tokens alone: (N, queries, hidden)."""
        count, length, hidden = tokens.shape
        size = hidden // self.heads
        normed = self.norm_before(tokens).to(self.key_value.weight.dtype)
        parts = self.key_value(normed).view(count, length, 2, self.heads, size)
        key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        query = self.query(normed[:, -queries:]).view(count, queries, self.heads, size)
        return self._finish(tokens[:, -queries:], query.transpose(1, 2), key, value)

    def _finish(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (part.to(self.attention_dtype) for part in (query, key, value))
        attended = self.attend(query, key, value)
        # Sums and normalisation stay in the precision of `tokens`.
        tokens = tokens + self.attention_output(attended.transpose(1, 2).flatten(2))
        return tokens + self.narrow(self.activation(self.widen(self.norm_after(tokens))))


class YolosNetwork:
    """An immutable network made of a checkpoint's weights, on one device in one precision."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        scale: Sequence[float],
        shift: Sequence[float],
        plan: DevicePlan,
    ) -> None:
        """`scale` and `shift` normalise the 8-bit value of each channel: scale * x + shift."""
        config = checkpoint.config
        self.plan = plan
        self._config = config
        self._normalised_by = (tuple(scale), tuple(shift))
        self._weights = checkpoint.weights
        self._epsilon: float = config.layer_norm_eps
        self.device = torch.device(plan.device)
        self.queries: int = config.num_detection_tokens
        self.activation: Any = config.hidden_act
        self.patch: int = config.patch_size
        self.positions = PositionEmbeddings(checkpoint, device=self.device, dtype=plan.dtype)
        self.projection = self._place(
            *_fold(
                self._weights["vit.embeddings.patch_embeddings.projection.weight"],
                self._weights["vit.embeddings.patch_embeddings.projection.bias"],
                torch.tensor(scale),
                torch.tensor(shift),
            )
        )
        self.detection_tokens = self._to(self._weights["vit.embeddings.detection_tokens"])
        self.class_token = self._to(self._weights["vit.embeddings.cls_token"])
        self._attend: Callable[[Tensor, Tensor, Tensor], Tensor] = (
            ProductAttention(plan.attention_dtype)
            if plan.attends_by_products
            else functional.scaled_dot_product_attention
        )
        self.layers = [
            self._layer(f"vit.encoder.layer.{index}", config)
            for index in range(config.num_hidden_layers)
        ]
        self.norm = self._normalisation("vit.layernorm")
        # The heads see a hundred tokens: exactness costs nothing there.
        self.classifier = self._perceptron("class_labels_classifier")
        self.box_predictor = self._perceptron("bbox_predictor")

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """8-bit RGB (N, height, width, 3), edges multiples of the patch, to logits and boxes.

        Logits: (N, queries, labels + 1), the last being "no object". Boxes: (N, queries, 4) as
        centre x, centre y, width and height relative to the image. Both are float32.
        """
        return self.compute(pixels, *self.positions.find(pixels.shape[1], pixels.shape[2]))

    def compute(
        self, pixels: Tensor, positions: Tensor, middle: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same with the position embeddings of the input's shape: no Python that depends on
        the input, so that it can be traced."""
        count, height, width, _ = pixels.shape
        rows, columns = height // self.patch, width // self.patch
        patches = pixels.to(self.device, non_blocking=True).view(
            count, rows, self.patch, columns, self.patch * 3
        )
        patches = patches.transpose(2, 3).reshape(count, rows * columns, -1)
        tokens = torch.cat(
            (
                self.class_token.expand(count, -1, -1),
                self.projection(patches),
                self.detection_tokens.expand(count, -1, -1),
            ),
            dim=1,
        )
        tokens += positions
        for index, layer in enumerate(self.layers[:-1]):
            tokens = layer(tokens)
            if middle is not None:
                tokens = tokens + middle[index]
        found = self.norm(self.layers[-1].last(tokens, self.queries))
        logits = _perceive(self.classifier, found)
        boxes = _perceive(self.box_predictor, found).float().sigmoid()
        return logits.float(), boxes

    def equals(self, other: "YolosNetwork") -> bool:
        """Whether both are made of the same weights, configuration, normalisation and plan."""
        return (
            self.plan == other.plan
            and self._config.to_dict() == other._config.to_dict()
            and self._normalised_by == other._normalised_by
            and self._weights.keys() == other._weights.keys()
            and all(torch.equal(it, other._weights[name]) for name, it in self._weights.items())
        )

    def _layer(self, name: str, config: Config) -> Layer:
        parts = [f"{name}.attention.attention.{part}" for part in ("query", "key", "value")]
        return Layer(
            norm_before=self._normalisation(f"{name}.layernorm_before"),
            query=self._linear(parts[0]),
            key_value=self._linear(*parts[1:]),
            query_key_value=self._linear(*parts),
            attention_output=self._linear(f"{name}.attention.output.dense"),
            norm_after=self._normalisation(f"{name}.layernorm_after"),
            widen=self._linear(f"{name}.intermediate.dense"),
            narrow=self._linear(f"{name}.output.dense"),
            heads=config.num_attention_heads,
            activation=_find_activation(config.hidden_act),
            attention_dtype=self.plan.attention_dtype,
            attend=self._attend,
        )

    def _perceptron(self, name: str) -> list[Linear]:
        return [self._linear(f"{name}.layers.{part}", dtype=self.plan.dtype) for part in range(3)]

    def _linear(self, *names: str, dtype: torch.dtype | None = None) -> Linear:
        """The map of the weights so named, or of several of equal inputs as one."""
        weight = torch.cat([self._weights[f"{name}.weight"] for name in names])
        biases = [bias for name in names if (bias := self._weights.get(f"{name}.bias")) is not None]
        return self._place(weight, torch.cat(biases) if biases else None, dtype)

    def _place(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None
    ) -> Linear:
        dtype = dtype or self.plan.product_dtype
        return Linear(self._to(weight, dtype), None if bias is None else self._to(bias, dtype))

    def _normalisation(self, name: str) -> Norm:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return Norm(self._to(weight), self._to(bias), self._epsilon)

    def _to(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return tensor.to(self.device, dtype or self.plan.dtype).contiguous()


class ProductAttention:
    """Attention as two matrix products with a softmax between, so many queries at a time that
    their scores fit into buffers of 16 MB, which stay: to get and give back that much memory for
    each layer takes longer than the products.

    Scores are rounded to the precision of the inputs, as in PyTorch's own kernel they are not.
    Used on one thread alone.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._scores = torch.empty(_MOST_SCORES, dtype=dtype)
        self._shares = torch.empty(_MOST_SCORES, dtype=dtype)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, queries, size), and keys and values (N, heads, tokens, size), to the first."""
        # A trace would have as many steps for every input as it had for the first.
        is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        attend = _script_attention() if is_tracing else _attend_in_parts
        return attend(query, key, value, self._scores, self._shares)


def _attend_in_parts(
    query: Tensor, key: Tensor, value: Tensor, scores_memory: Tensor, shares_memory: Tensor
) -> Tensor:
    # In the Python that TorchScript knows.
    count, heads, queries, size = query.shape
    every, tokens = count * heads, key.shape[2]
    scaled = (query * size**-0.5).reshape(every, queries, size)
    keys = key.reshape(every, tokens, size).transpose(1, 2)
    values = value.reshape(every, tokens, size)
    attended = torch.empty_like(scaled)
    rows = max(1, scores_memory.numel() // (every * tokens))
    for start in range(0, queries, rows):
        part = scaled[:, start : start + rows]
        shape = [every, part.shape[1], tokens]
        count_of_scores = every * part.shape[1] * tokens
        if count_of_scores <= scores_memory.numel():
            scores = scores_memory[:count_of_scores].view(shape)
            shares = shares_memory[:count_of_scores].view(shape)
        else:
            scores, shares = scores_memory.new_empty(shape), scores_memory.new_empty(shape)
        torch.bmm(part, keys, out=scores)
        torch.softmax(scores, -1, out=shares)
        attended[:, start : start + rows] = torch.bmm(shares, values)
    return attended.view(count, heads, queries, size)


@functools.cache
def _script_attention() -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    scripted: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    scripted = torch.jit.script(_attend_in_parts)
    return scripted


def _find_activation(name: str) -> Callable[[Tensor], Tensor]:
    # All published YOLOS have this one. To import transformers' table of all takes a second.
    if name == "gelu":
        return functional.gelu
    from transformers.activations import ACT2FN

    activation: Callable[[Tensor], Tensor] = ACT2FN[name]
    return activation


def _fold(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The patch convolution as a linear map of 8-bit pixels in (row, column, channel) order.

    w * (scale * x + shift) + b = (w * scale) * x + (w * shift + b): exact, for the convolution
    has no padding.
    """
    bias = bias + (weight * shift.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    scaled = weight * scale.view(1, 3, 1, 1)
    return scaled.permute(0, 2, 3, 1).reshape(len(weight), -1), bias


def _perceive(layers: Sequence[Linear], values: Tensor) -> Tensor:
    for layer in layers[:-1]:
        values = functional.relu(layer(values))
    return layers[-1](values)
