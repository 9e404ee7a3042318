"""Tiny classifiers of other families, as transformers has them, with random weights."""

from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VJEPA2Config, VJEPA2ForVideoClassification

NAMES = ["a", "b", "c"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: index for index, name in enumerate(NAMES)}}


def videomae(**changes) -> VideoMAEForVideoClassification:
    """32 tokens of 2 x 8 x 8 on its own grid of 4 x 32."""
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "num_frames": 4,
        "tubelet_size": 2,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    return VideoMAEForVideoClassification(VideoMAEConfig(**sizes | LABELS | changes))


def vjepa2(**changes) -> VJEPA2ForVideoClassification:
    """As many of the same."""
    sizes = {
        "crop_size": 32,
        "patch_size": 8,
        "frames_per_clip": 4,
        "tubelet_size": 2,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "mlp_ratio": 1.5,
        "pred_hidden_size": 24,
        "pred_num_hidden_layers": 1,
        "pred_num_attention_heads": 2,
        "num_pooler_layers": 1,
    }
    return VJEPA2ForVideoClassification(VJEPA2Config(**sizes | LABELS | changes))
