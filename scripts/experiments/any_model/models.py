"""The models: a small VideoMAE and a small V-JEPA 2, of Transformers' own classes and configurations."""

import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VJEPA2Config, VJEPA2ForVideoClassification

from flux_hf import enable_flux
from flux_hf.processing.grid_fluxvit import Grid

GRID = Grid(16, 96)
"""That of stock training and of all tests."""
PATCH, TUBELET = 16, 2
ALL_TOKENS = (GRID.frames // TUBELET) * (GRID.size // PATCH) ** 2
SHARES = (1, 2, 4, 8)
BUDGETS = [ALL_TOKENS // share for share in SHARES]
"""Tested: all tokens of the grid divided by these."""
WIDTH, HEADS, LAYERS = 144, 3, 6


def videomae(label_names: list[str]) -> VideoMAEForVideoClassification:
    """1.7 million parameters of random weights."""
    config = VideoMAEConfig(
        image_size=GRID.size,
        num_frames=GRID.frames,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        **_labels(label_names),
    )
    return VideoMAEForVideoClassification(config)


def vjepa2(label_names: list[str]) -> VJEPA2ForVideoClassification:
    """2.2 million parameters of random weights, without the predictor, which a classifier does not use."""
    config = VJEPA2Config(
        crop_size=GRID.size,
        frames_per_clip=GRID.frames,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        mlp_ratio=4,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        **_labels(label_names),
    )
    return VJEPA2ForVideoClassification(config)


MODELS = {"videomae": videomae, "vjepa2": vjepa2}


def enabled_model(name: str, label_names: list[str], seed: int) -> torch.nn.Module:
    """One of `MODELS`, the same weights for the same seed, with selection on and all tokens kept."""
    torch.manual_seed(seed)
    return enable_flux(MODELS[name](label_names))


def _labels(label_names: list[str]) -> dict:
    return {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
