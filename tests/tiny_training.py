"""A tiny model, its training arguments and clips for tests of training."""

import numpy as np

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.data import CachedClips
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from flux_hf.training.sampling import ClipRequest
from flux_hf.training.training_clips import TrainingClips
from tests.tiny_models import PATCHES_OF_14

NAMES = ["a", "b", "c"]
GRIDS = {(4, 28), (4, 42), (6, 28), (6, 42), (8, 28)}


def model(**changes) -> FluxViTForVideoClassification:
    settings = PATCHES_OF_14 | {
        "head_token_budgets": [16, 12, 8],
        "id2label": dict(enumerate(NAMES)),
        "label2id": {name: index for index, name in enumerate(NAMES)},
    }
    return FluxViTForVideoClassification(FluxViTConfig(**settings | changes))


def arguments(folder, **changes) -> FluxTrainingArguments:
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "max_steps": 2,
        "min_frames": 4,
        "max_frames": 8,
        "min_size": 28,
        "max_size": 42,
        "size_step": 14,
        "min_pool_tokens": 16,
        "max_pool_tokens": 54,
    }
    return FluxTrainingArguments(**settings | changes)


def processor() -> FluxVideoProcessor:
    return FluxVideoProcessor(grids={16: (6, 42), 12: (4, 42), 8: (4, 42)})


def clips(count: int = 12, frames: int = 10, size: int = 48) -> CachedClips:
    """Noise whose mean tells the label."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % len(NAMES)
    pixels = generator.integers(0, 90, (count, frames, size, size, 3)) + 80 * labels[:, None, None, None, None]
    return CachedClips(pixels.astype(np.uint8), labels, NAMES, [f"clip {number}" for number in range(count)])


def trainer(folder, *, train=None, evaluation=None, changes=None, **options) -> FluxTrainer:
    return FluxTrainer(
        model=model(**changes or {}),
        args=arguments(folder, **options),
        train_dataset=clips() if train is None else train,
        eval_dataset=evaluation,
        processing_class=processor(),
    )


def spans_read(source: CachedClips, make_views, times: int = 100) -> list[int]:
    """From the first to the last frame that training reads, were the clips videos of 60 frames."""
    spans = []

    class Long(type(source)):
        def read(self, index, choose):
            numbers = choose(60)
            spans.append(numbers[-1] - numbers[0])
            return super().read(index, lambda total: numbers % total)

    clips = TrainingClips(Long(source.clips, source.labels, source.label_names, source.video_names), make_views)
    for epoch in range(times):
        clips[ClipRequest(0, epoch, (4, 28))]
    return spans
