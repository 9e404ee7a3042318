"""A tiny dual encoder, pairs of clips and captions, and the training arguments for tests of aligning."""

import csv
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor
from flux_hf.text.arguments import FluxAligningArguments
from flux_hf.text.captioned_clips import CachedPairs
from flux_hf.text.trainer import FluxAligningTrainer
from tests import tiny_training, video_datasets

WORDS = ["[PAD]", "[UNK]", "a", "clip", "of", "something", "dark", "grey", "bright", "jumping", "running", "flute"]
SHADES = ["dark", "grey", "bright"]
GRIDS = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def text_tower(**changes) -> BertModel:
    settings = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings |= {"intermediate_size": 16, "max_position_embeddings": 40}
    return BertModel(BertConfig(**settings | changes), add_pooling_layer=False)


def text_folder(folder: Path) -> Path:
    """A saved text encoder with its tokenizer."""
    torch.manual_seed(5)
    text_tower().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def model(video: dict | None = None, **changes) -> FluxViTClipModel:
    settings = {"projection_dim": 8, "logit_scale_init": 10.0} | changes
    return FluxViTClipModel.from_towers(tiny_training.model(**video or {}), text_tower(), **settings)


def processor() -> FluxViTClipProcessor:
    return FluxViTClipProcessor(tiny_training.processor(), tokenizer())


def pairs(count: int = 12, captions: int = 2) -> CachedPairs:
    """The clips of `tiny_training`, whose captions tell how bright they are."""
    clips = tiny_training.clips(count)
    texts = [[f"a {SHADES[label]} clip", f"something {SHADES[label]}"][:captions] for label in clips.labels]
    return CachedPairs(clips.clips, texts, None, clips.video_names)


def arguments(folder, **changes) -> FluxAligningArguments:
    tiny = tiny_training.arguments(folder)
    settings = {name: getattr(tiny, name) for name in GRIDS} | {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "max_steps": 2,
    }
    return FluxAligningArguments(**settings | changes)


def trainer(folder, *, train=None, evaluation=None, changes=None, **options) -> FluxAligningTrainer:
    return FluxAligningTrainer(
        model=model(**changes or {}),
        args=arguments(folder, **options),
        train_dataset=pairs() if train is None else train,
        eval_dataset=evaluation,
        processing_class=processor(),
    )


def captioned_folder(folder: Path, counts: dict[str, int]) -> Path:
    """`split/clip.mp4` with `split/metadata.csv`, as `datasets` has it; captions of three kinds."""
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        with open(folder / split / "metadata.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "caption"])
            for number in range(count):
                video_datasets.write_video(folder / split / f"{number}.mp4", number)
                writer.writerow([f"{number}.mp4", f"a clip of {video_datasets.CLASSES[number % 3]}"])
    return folder


def unit(rows: torch.Tensor | list[torch.Tensor]) -> np.ndarray:
    """Float64 rows of length 1."""
    rows = (torch.stack(rows) if isinstance(rows, list) else rows).double().numpy()
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
