"""YOLOS checkpoints with random weights, in the hub's layout: real to everything but an eye."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LABELS = ("cat", "dog", "N/A", "bird")

#: https://huggingface.co/hustvl/yolos-tiny/blob/main/config.json
YOLOS_TINY: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "image_size": [800, 1333],
    "patch_size": 16,
    "num_detection_tokens": 100,
    "use_mid_position_embeddings": False,
}
YOLOS_TINY_PARAMETERS = 6_488_736
#: https://huggingface.co/hustvl/yolos-tiny/blob/main/preprocessor_config.json
YOLOS_TINY_PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "YolosFeatureExtractor",
    "format": "coco_detection",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "max_size": 1333,
    "size": 800,
}
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": [64, 96],
    "patch_size": 16,
    "num_detection_tokens": 12,
    "use_mid_position_embeddings": False,
}
SMALL_PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "do_pad": True,
    "format": "coco_detection",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "YolosImageProcessor",
    "rescale_factor": 1 / 255,
    "resample": 2,
    "size": {"shortest_edge": 96, "longest_edge": 160},
}


def write_checkpoint(
    folder: Path,
    *,
    labels: Sequence[str] = LABELS,
    preprocessor: dict[str, Any] | None = None,
    seed: int = 0,
    **config: Any,
) -> int:
    """Write a checkpoint with random weights into `folder`; return how many parameters it has.

    `config` changes that of a small network. Nothing in it is zero, so that no part of the
    network can be left out unnoticed.
    """
    import torch
    from transformers import YolosConfig, YolosForObjectDetection

    torch.manual_seed(seed)
    network = YolosForObjectDetection(
        YolosConfig(**{**SMALL, **config}, id2label=dict(enumerate(labels)))
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    network.save_pretrained(folder)
    settings = json.dumps(preprocessor or SMALL_PREPROCESSOR, indent=2)
    (folder / "preprocessor_config.json").write_text(settings)
    return sum(parameter.numel() for parameter in network.parameters())
