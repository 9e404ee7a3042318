"""A dual encoder that computes in milliseconds and to which clips and sentences differ, and videos with captions."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig

from flux_hf import FluxVideoProcessor, FluxViTClipConfig, FluxViTClipModel, FluxViTClipProcessor, FluxViTConfig
from tests.tiny_clip import tiny_tokenizer
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video

WORDS = "[PAD] [UNK] a the of and dark bright grey small large square noise video".split()
WORDS += "moves turns up down left right slowly".split()


def searching_model(seed: int = 0, **options) -> FluxViTClipModel:
    """Random weights, wide enough spread that videos and sentences differ; budgets 64 and 32."""
    torch.manual_seed(seed)
    vision = FluxViTConfig(**PATCHES_OF_8, head_token_budgets=[64, 32], initializer_range=0.5)
    text = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    config = FluxViTClipConfig(
        vision_config=vision, text_config=text, **{"projection_dim": 24, "logit_scale_init": 10.0} | options
    )
    return FluxViTClipModel(config).eval()


def searching_processor() -> FluxViTClipProcessor:
    """Grids with more tokens than the budgets keep."""
    grids = {64: (4, 48), 32: (4, 48), 16: (2, 32)}
    return FluxViTClipProcessor(FluxVideoProcessor(patch_size=8, grids=grids), tiny_tokenizer(WORDS))


def save_searching(folder: Path, seed: int = 0, **options) -> Path:
    """The model and its processor as a checkpoint."""
    searching_model(seed, **options).save_pretrained(folder)
    searching_processor().save_pretrained(folder)
    return folder


def write_noise(path: Path, number: int, num_frames: int = 10) -> Path:
    """A video of noise of its own that moves."""
    noise = np.random.default_rng(number).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_video(num_frames, picture=lambda frame, *size: np.roll(noise, 3 * frame, 1)))
    return path


def captioned_videos(folder: Path, captions: list[list[str]]) -> Path:
    """`test.json` with the captions of each video; the videos are `clips/0.mp4`, ..."""
    rows = []
    for number, texts in enumerate(captions):
        path = write_noise(folder / "clips" / f"{number}.mp4", number)
        rows.append({"video": str(path.relative_to(folder)), "caption": texts})
    (folder / "test.json").write_text(json.dumps(rows))
    return folder
