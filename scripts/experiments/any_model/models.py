"""A small VideoMAE and a small V-JEPA 2, of Transformers' own classes and configurations, and their settings."""

from dataclasses import dataclass

import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VJEPA2Config, VJEPA2ForVideoClassification

from flux_hf import enable_flux
from flux_hf.processing.grid_fluxvit import Grid

PATCH, TUBELET = 16, 2
SHARES = (1, 2, 4, 8)
"""Tested: all tokens of the grid divided by these."""


@dataclass(frozen=True)
class Setting:
    """How one model is built, trained and tested.

    Attributes:
        grid: frames and pixels of stock training and of all tests.
        flux_frames: fewest and most frames of Flux training, in steps of 4.
        flux_sizes: smallest and largest side of Flux training in pixels, in steps of a patch.
        steps: of 16 clips.
        learning_rate: the peak, the same for stock and Flux training.
    """

    grid: Grid
    flux_frames: tuple[int, int]
    flux_sizes: tuple[int, int]
    width: int
    heads: int
    layers: int
    steps: int
    learning_rate: float

    @property
    def budgets(self) -> list[int]:
        """Tokens kept in the tests, all of the grid first."""
        tokens = (self.grid.frames // TUBELET) * (self.grid.size // PATCH) ** 2
        return [tokens // share for share in SHARES]


SETTINGS = {
    "videomae": Setting(Grid(16, 96), (8, 24), (64, 112), width=144, heads=3, layers=6, steps=1200, learning_rate=1e-3),
    "vjepa2": Setting(Grid(8, 64), (4, 12), (48, 80), width=96, heads=2, layers=4, steps=900, learning_rate=2e-3),
}
"""V-JEPA 2 of VideoMAE's grid, width and depth has learnt too little after 1200 steps to be compared. Its learning rate
is the better of two in stock training of seed 0, which is in no table."""


def videomae(setting: Setting, label_names: list[str]) -> VideoMAEForVideoClassification:
    """Of random weights; 1.7 million parameters as set above."""
    config = VideoMAEConfig(
        image_size=setting.grid.size,
        num_frames=setting.grid.frames,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        hidden_size=setting.width,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        intermediate_size=4 * setting.width,
        **_labels(label_names),
    )
    return VideoMAEForVideoClassification(config)


def vjepa2(setting: Setting, label_names: list[str]) -> VJEPA2ForVideoClassification:
    """Of random weights; its predictor, which a classifier does not use, is as small as can be."""
    config = VJEPA2Config(
        crop_size=setting.grid.size,
        frames_per_clip=setting.grid.frames,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        hidden_size=setting.width,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
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
    return enable_flux(MODELS[name](SETTINGS[name], label_names))


def _labels(label_names: list[str]) -> dict:
    return {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
