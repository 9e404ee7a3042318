"""A tiny video tower, text tower and tokenizer, whose weights mean nothing."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from flux_hf import FluxVideoProcessor, FluxViTClipModel, FluxViTClipProcessor, FluxViTConfig, FluxViTModel
from tests.tiny_models import PATCHES_OF_14

WORDS = "[PAD] [UNK] a the red blue green ball box moves left right up down slowly fast video clip of to".split()
BUDGETS = [48, 24]


def tiny_tokenizer(words: list[str] = WORDS) -> PreTrainedTokenizerFast:
    """A word is a token; the first two words pad and stand for what is not known."""
    pad, unknown = words[:2]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown)


def tiny_text_config(**options) -> BertConfig:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(**{"vocab_size": len(WORDS), "max_position_embeddings": 40} | sizes | options)


def tiny_clip(seed: int = 0, **options) -> FluxViTClipModel:
    """In evaluation mode; `options` are those of the configuration."""
    torch.manual_seed(seed)
    video = FluxViTModel(FluxViTConfig(**PATCHES_OF_14, head_token_budgets=BUDGETS))
    return FluxViTClipModel.from_towers(video, BertModel(tiny_text_config()), **{"projection_dim": 20} | options)


def tiny_clip_processor() -> FluxViTClipProcessor:
    """Two budgets, each with a grid that has more tokens than it keeps."""
    video_processor = FluxVideoProcessor(token_budget=24, grids={24: (4, 42), 48: (4, 56)})
    return FluxViTClipProcessor(video_processor, tiny_tokenizer())


def tiny_pairs(pairs: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random clips of (4, 3, 56, 56) with random sentences of 3 to 6 words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 7, (pairs, 1), generator=generator)
    mask = (torch.arange(6) < lengths).long()
    return {
        "pixel_values_videos": torch.randn(pairs, 4, 3, 56, 56, generator=generator),
        "input_ids": torch.randint(2, len(WORDS), (pairs, 6), generator=generator) * mask,
        "attention_mask": mask,
    }
