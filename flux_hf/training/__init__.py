"""Fine-tuning with the HF Trainer."""

from flux_hf.training.finetuning import FinetuneOptions, finetune

__all__ = ["FinetuneOptions", "finetune"]
