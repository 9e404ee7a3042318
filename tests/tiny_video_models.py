"""Video transformers of Transformers and timm that compute in milliseconds, of 4 frames of 32 x 32 pixels.

Parameters are drawn large, so that a wrong token or position changes the logits visibly.
"""

import torch
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5}
GRID = {"num_frames": 4, "image_size": 32, "intermediate_size": 64}
JEPA = {"crop_size": 32, "frames_per_clip": 4, "patch_size": 8, "mlp_ratio": 2.0, "num_pooler_layers": 1}
PREDICTOR = {"pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}

CLASSIFIERS = {
    "videomae": (VideoMAEForVideoClassification, VideoMAEConfig, SIZES | GRID | {"patch_size": 8}),
    "vjepa2": (VJEPA2ForVideoClassification, VJEPA2Config, SIZES | JEPA | PREDICTOR),
    "vivit": (VivitForVideoClassification, VivitConfig, SIZES | GRID | {"tubelet_size": [2, 8, 8]}),
    "timesformer": (
        TimesformerForVideoClassification,
        TimesformerConfig,
        SIZES | GRID | {"patch_size": 8, "attention_type": "joint_space_time"},
    ),
}


def drawn(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The model in eval mode, with large parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale_of_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(mean=1.0 if scale_of_norm else 0.0, std=0.3, generator=generator)
    return model.eval()


def classifier(family: str, *, attention: str = "eager", **changes) -> torch.nn.Module:
    """A stock classifier."""
    model_class, config_class, settings = CLASSIFIERS[family]
    return drawn(model_class._from_config(config_class(**settings | changes), attn_implementation=attention))


def clips(batch: int = 2, frames: int = 4, height: int = 32, width: int = 32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 3, height, width, generator=generator)
