"""What every training command does once its trainer stands."""

from transformers import Trainer

from flux_hf.training.progress import show_progress_lines


def train_and_save(trainer: Trainer, **card) -> dict[str, float]:
    """Train from where `resume_from_checkpoint` says, evaluate where there is something to evaluate on, save, push
    where `push_to_hub` says so, with `card` for the model card. Returns the metrics of the evaluation, else those of
    the training."""
    show_progress_lines(trainer)
    metrics = trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint).metrics
    if trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    if trainer.args.push_to_hub:
        trainer.push_to_hub(**card)
    return metrics
