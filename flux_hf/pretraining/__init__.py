"""Flux-UMT pre-training: a frozen teacher distilled into a student that sees several token budgets in one step."""

from flux_hf.pretraining.arguments import FluxPreTrainingArguments
from flux_hf.pretraining.pretraining import PretrainOptions, pretrain
from flux_hf.pretraining.teacher import Teacher, load_teacher
from flux_hf.pretraining.trainer import FluxPreTrainer

__all__ = ["FluxPreTrainer", "FluxPreTrainingArguments", "PretrainOptions", "Teacher", "load_teacher", "pretrain"]
