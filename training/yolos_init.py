"""Build a small YOLOS whose starting weights let it learn at once.

``YolosForObjectDetection`` starts detection tokens, class token and position embeddings at zero;
all tokens are then alike, and thousands of steps pass before they part. Here the second half of the
embedding holds a sine-cosine code of the place, of patches and of detection tokens alike (each
token starts at an anchor of a regular grid), and the heads start by looking at fixed neighbours, as
a small convolution does ("Structured Initialization for Attention in Vision Transformers", Zheng
et al., 2024). The network's form is untouched, and all of it is trained.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import YolosConfig, YolosForObjectDetection
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Modules of transformers, whose types do not say what they hold.
Network = Any
ANCHOR_ROWS = 5
ANCHOR_COLUMNS = 5
PATCH_SIGNAL = 0.7
LOOK_SHARPNESS = 1.4
_CROSS = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)]
_CORNERS = [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)]
_WIDE = [(2.0, 0.0), (-2.0, 0.0), (0.0, 2.0), (0.0, -2.0)]
# Where the heads of each layer look at first, in patches from their own: like a small convolution.
OFFSETS = [_CROSS, _CORNERS, _CROSS, _WIDE, _CROSS, _CORNERS]


def detector_config(height: int, width: int, patch_size: int) -> YolosConfig:
    """Return the configuration of the digit detector, 1.1 million parameters."""
    names = [str(digit) for digit in range(10)]
    return YolosConfig(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=[height, width],
        patch_size=patch_size,
        num_detection_tokens=ANCHOR_ROWS * ANCHOR_COLUMNS,
        use_mid_position_embeddings=False,
        layer_norm_eps=1e-6,
        id2label=dict(enumerate(names)),
        label2id={name: digit for digit, name in enumerate(names)},
        class_cost=2,
        eos_coefficient=0.2,
    )


def grid_points(rows: int, columns: int) -> torch.Tensor:
    """Return the cell centres (rows * columns, 2), x then y, of a grid over the unit square."""
    y = (torch.arange(rows) + 0.5) / rows
    x = (torch.arange(columns) + 0.5) / columns
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2)


def anchor_points() -> torch.Tensor:
    """Return where the detection tokens start, (tokens, 2), x then y in 0..1."""
    return grid_points(ANCHOR_ROWS, ANCHOR_COLUMNS)


def position_code(points: torch.Tensor, rows: int, columns: int, size: int) -> torch.Tensor:
    """Encode points of the unit square as ``size`` sines and cosines.

    The frequencies are evenly spaced in radians a patch of a grid of ``rows`` x ``columns``:
    x sines, x cosines, y sines, y cosines, ``size // 4`` of each.
    """
    frequency = torch.linspace(0.125, 2.0, size // 4)
    phase = (points * torch.tensor([columns, rows]))[:, :, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=2).flatten(1)


def look_aside(attention: Network, offsets: list[tuple[float, float]], first: int) -> None:
    """Set each head's query and key so that it attends ``offsets`` (x, y) patches from itself.

    The position code fills the embedding from ``first`` on. A shift turns each sine-cosine pair by
    its frequency times the shift, so a rotated query meets the key of the neighbour.
    """
    hidden = attention.query.weight.shape[0]
    heads = len(offsets)
    per_head, count = hidden // heads, (hidden - first) // 4
    frequency = torch.linspace(0.125, 2.0, count)
    used = per_head // 4
    noise = 0.3 / math.sqrt(hidden)
    attention.query.weight.normal_(std=noise)
    attention.key.weight.normal_(std=noise)
    for head, offset in enumerate(offsets):
        chosen = torch.arange(head % 2, count, count // used)[:used]
        row = head * per_head
        for axis in range(2):
            sine = first + axis * 2 * count + chosen
            cosine = sine + count
            turn = frequency[chosen] * offset[axis]
            at = row + axis * 2 * used + torch.arange(used)
            attention.key.weight[at, sine] += LOOK_SHARPNESS
            attention.key.weight[at + used, cosine] += LOOK_SHARPNESS
            # sin(a + t) = sin a cos t + cos a sin t, and so for the cosine.
            attention.query.weight[at, sine] += LOOK_SHARPNESS * turn.cos()
            attention.query.weight[at, cosine] += LOOK_SHARPNESS * turn.sin()
            attention.query.weight[at + used, cosine] += LOOK_SHARPNESS * turn.cos()
            attention.query.weight[at + used, sine] -= LOOK_SHARPNESS * turn.sin()


def plain_attention(
    _module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend in the precision that the queries come in.

    The fused kernel's backward pass is several times slower on a CPU at this size, and autocast
    would take the softmax to float32 and back.
    """
    with torch.autocast("cpu", enabled=False):
        weights = torch.matmul(query * scaling, key.transpose(2, 3)).softmax(-1)
        return torch.matmul(weights, value).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register("plain", plain_attention)


@torch.no_grad()
def whiten_patches(model: Network, pixels: torch.Tensor) -> None:
    """Set the patch projection to whiten the patches of ``pixels`` (batch, 3, height, width).

    Neighbouring pixels and the three colours say nearly the same; a projection onto the scaled
    principal components hands the encoder strokes instead of brightness from the first step
    ("94% on CIFAR-10 in 3.29 Seconds", Jordan, 2024).
    """
    projection = model.vit.embeddings.patch_embeddings.projection
    size = int(model.config.patch_size)
    patches = F.unfold(pixels, size, stride=size).transpose(1, 2).flatten(0, 1)
    centred = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    content = int(model.config.hidden_size) // 2
    scale = (values[-content:] + 0.02 * values.mean()).rsqrt()
    weight = torch.zeros_like(projection.weight).flatten(1)
    weight[:content] = (
        torch.linalg.qr(torch.randn(content, content)).Q @ (vectors[:, -content:] * scale).T
    )
    weight *= PATCH_SIGNAL / (patches @ weight[:content].T).std()
    projection.weight.copy_(weight.reshape(projection.weight.shape))
    nn.init.zeros_(projection.bias)


@torch.no_grad()
def build_detector(config: Network) -> Network:
    """Return a detector with fresh weights drawn from torch's global generator."""
    model: Network = YolosForObjectDetection._from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation="plain"
    )
    content = config.hidden_size // 2
    for layer, offsets in zip(model.vit.encoder.layer, OFFSETS, strict=True):
        attention = layer.attention.attention
        dense = [attention.value, layer.attention.output.dense, layer.intermediate.dense]
        for linear in [*dense, layer.output.dense]:
            nn.init.xavier_uniform_(linear.weight)
        look_aside(attention, offsets, content)
        # What the layers write goes beside the position code, which stays readable.
        attention.value.weight[:, content:] *= 0.2
        attention.value.weight[:, :content] *= math.sqrt(2)
        for linear in (layer.attention.output.dense, layer.output.dense):
            linear.weight[:content] *= 0.6
            linear.weight[content:] *= 0.1
    embeddings = model.vit.embeddings
    nn.init.xavier_uniform_(embeddings.patch_embeddings.projection.weight.flatten(1))
    nn.init.normal_(embeddings.cls_token, std=0.5)
    embeddings.detection_tokens.normal_(std=0.1)
    embeddings.detection_tokens[..., :content] += torch.randn(content) * 0.5
    rows = config.image_size[0] // config.patch_size
    columns = config.image_size[1] // config.patch_size
    embeddings.position_embeddings.zero_()
    for first, points in ((1, grid_points(rows, columns)), (1 + rows * columns, anchor_points())):
        code = position_code(points, rows, columns, config.hidden_size - content)
        embeddings.position_embeddings[0, first : first + len(points), content:] = code
    for head in (model.class_labels_classifier, model.bbox_predictor):
        for linear in head.layers:
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
    # Most tokens see no digit, and a digit's box is about a third of the picture.
    model.class_labels_classifier.layers[-1].bias[-1] = 2.0
    model.bbox_predictor.layers[-1].bias[2:] = -1.2
    return model
