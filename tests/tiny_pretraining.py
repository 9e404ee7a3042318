"""A tiny student, teachers and clips for tests of pre-training."""

import torch

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForPreTraining, FluxViTForVideoClassification
from flux_hf.pretraining import FluxPreTrainer, FluxPreTrainingArguments, load_teacher
from tests import tiny_training

TEACHER = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "projection_dim": 24}
BUDGETS = [16, 12, 8]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def teacher_folder(folder):
    """A saved classifier, wider, deeper and with another patch and normalisation than the student."""
    torch.manual_seed(7)
    config = tiny_training.model().config.to_dict() | TEACHER | {"patch_size": 7, "position_size": 28}
    FluxViTForVideoClassification(FluxViTConfig(**config)).save_pretrained(folder)
    FluxVideoProcessor(patch_size=7, image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder


def student(**changes) -> FluxViTForPreTraining:
    settings = tiny_training.model().config.to_dict() | {"teacher_hidden_size": 48, "teacher_projection_dim": 24}
    return FluxViTForPreTraining(FluxViTConfig(**settings | changes))


def arguments(folder, **changes) -> FluxPreTrainingArguments:
    names = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")
    tiny = tiny_training.arguments(folder)
    settings = {name: getattr(tiny, name) for name in names} | {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "warmup_steps": 0,
        "max_steps": 2,
        "teacher_tokens": 16,
    }
    return FluxPreTrainingArguments(**settings | changes)


def trainer(folder, teacher_path, *, train=None, changes=None, layers=None, weights=None, **options) -> FluxPreTrainer:
    return FluxPreTrainer(
        model=student(**changes or {}),
        args=arguments(folder, **options),
        train_dataset=tiny_training.clips() if train is None else train,
        processing_class=tiny_training.processor(),
        teacher=load_teacher(str(teacher_path), patch_size=14, image_mean=MEAN, image_std=STD),
        teacher_layers=layers,
        weights=weights,
    )
