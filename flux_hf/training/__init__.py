"""Fine-tuning with the HF Trainer: Flux sampling, Flux objective, evaluation at several budgets."""

from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.finetuning import FinetuneOptions, finetune
from flux_hf.training.trainer import FluxTrainer

__all__ = ["FinetuneOptions", "FluxTrainer", "FluxTrainingArguments", "finetune"]
