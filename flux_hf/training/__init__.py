"""Fine-tuning with the HF Trainer: Flux sampling, Flux objective, evaluation at several budgets."""

from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.finetuning import FinetuneOptions, finetune
from flux_hf.training.progress import show_progress_lines
from flux_hf.training.starting_model import starting_model
from flux_hf.training.trainer import FluxTrainer

__all__ = [
    "FinetuneOptions",
    "FluxTrainer",
    "FluxTrainingArguments",
    "finetune",
    "show_progress_lines",
    "starting_model",
]
