"""The YOLOS forward pass for inference: transformers' mathematics with less work.

- The patch projection is one matrix product on 8-bit pixels, normalisation folded in.
- Query, key and value are one matrix product.
- Position embeddings are interpolated once per input shape.
- The last layer is computed for the detection tokens alone: nothing reads the others.

In float32 no answer changes but by rounding; the tests compare it with
`YolosForObjectDetection`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from app.inference.device import DevicePlan
from app.inference.yolos_checkpoint import Checkpoint
from app.inference.yolos_positions import PositionEmbeddings


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

    def __call__(self, tokens: Tensor) -> Tensor:
        """(N, tokens, hidden) to the same."""
        count, length, hidden = tokens.shape
        projected = self.query_key_value(self.norm_before(tokens))
        parts = projected.view(count, length, 3, self.heads, hidden // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return self._finish(tokens, query, key, value)

    def last(self, tokens: Tensor, queries: int) -> Tensor:
        """The block's output for the last `queries` tokens alone: (N, queries, hidden)."""
        count, length, hidden = tokens.shape
        size = hidden // self.heads
        normed = self.norm_before(tokens).to(self.key_value.weight.dtype)
        parts = self.key_value(normed).view(count, length, 2, self.heads, size)
        key, value = parts.permute(2, 0, 3, 1, 4)
        query = self.query(normed[:, -queries:]).view(count, queries, self.heads, size)
        return self._finish(tokens[:, -queries:], query.transpose(1, 2), key, value)

    def _finish(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (part.to(self.attention_dtype) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(query, key, value)
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
        self.device = torch.device(plan.device)
        self.queries: int = config.num_detection_tokens
        self.activation: Any = config.hidden_act
        self.patch: int = config.patch_size
        checkpoint.eval().requires_grad_(False)
        embeddings = checkpoint.vit.embeddings
        self.positions = PositionEmbeddings(checkpoint, device=self.device, dtype=plan.dtype)
        self.projection = self._place(
            *_fold(embeddings.patch_embeddings.projection, torch.tensor(scale), torch.tensor(shift))
        )
        self.detection_tokens = self._to(embeddings.detection_tokens)
        self.class_token = self._to(embeddings.cls_token)
        self.layers = [self._layer(layer, config) for layer in checkpoint.vit.encoder.layer]
        self.norm = self._normalisation(checkpoint.vit.layernorm)
        # The heads see a hundred tokens: exactness costs nothing there.
        self.classifier = [
            self._linear(part, plan.dtype) for part in checkpoint.class_labels_classifier.layers
        ]
        self.box_predictor = [
            self._linear(part, plan.dtype) for part in checkpoint.bbox_predictor.layers
        ]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """8-bit RGB (N, height, width, 3), edges multiples of the patch, to logits and boxes.

        Logits: (N, queries, labels + 1), the last being "no object". Boxes: (N, queries, 4) as
        centre x, centre y, width and height relative to the image. Both are float32.
        """
        count, height, width, _ = pixels.shape
        rows, columns = height // self.patch, width // self.patch
        patches = pixels.to(self.device, non_blocking=True).view(
            count, rows, self.patch, columns, self.patch * 3
        )
        patches = patches.transpose(2, 3).reshape(count, rows * columns, -1)
        positions, middle = self.positions.find(height, width)
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

    def _layer(self, layer: Any, config: Any) -> Layer:
        attention = layer.attention.attention
        parts = (attention.query, attention.key, attention.value)
        return Layer(
            norm_before=self._normalisation(layer.layernorm_before),
            query=self._linear(attention.query),
            key_value=self._stack(parts[1:]),
            query_key_value=self._stack(parts),
            attention_output=self._linear(layer.attention.output.dense),
            norm_after=self._normalisation(layer.layernorm_after),
            widen=self._linear(layer.intermediate.dense),
            narrow=self._linear(layer.output.dense),
            heads=config.num_attention_heads,
            activation=layer.intermediate.intermediate_act_fn,
            attention_dtype=self.plan.attention_dtype,
        )

    def _stack(self, parts: Sequence[Any]) -> Linear:
        weight = torch.cat([part.weight for part in parts])
        bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        return self._place(weight, bias)

    def _linear(self, module: Any, dtype: torch.dtype | None = None) -> Linear:
        return self._place(module.weight, module.bias, dtype)

    def _place(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None
    ) -> Linear:
        dtype = dtype or self.plan.product_dtype
        return Linear(self._to(weight, dtype), None if bias is None else self._to(bias, dtype))

    def _normalisation(self, module: Any) -> Norm:
        return Norm(self._to(module.weight), self._to(module.bias), module.eps)

    def _to(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return tensor.detach().to(self.device, dtype or self.plan.dtype).contiguous()


def _fold(projection: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The patch convolution as a linear map of 8-bit pixels in (row, column, channel) order.

    w * (scale * x + shift) + b = (w * scale) * x + (w * shift + b): exact, for the convolution
    has no padding.
    """
    weight = projection.weight.detach()
    bias = projection.bias.detach() + (weight * shift.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    scaled = weight * scale.view(1, 3, 1, 1)
    return scaled.permute(0, 2, 3, 1).reshape(len(weight), -1), bias


def _perceive(layers: Sequence[Linear], values: Tensor) -> Tensor:
    for layer in layers[:-1]:
        values = functional.relu(layer(values))
    return layers[-1](values)
