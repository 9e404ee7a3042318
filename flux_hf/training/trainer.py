"""The HF Trainer with Flux sampling, the Flux objective and evaluation at several budgets."""

from collections.abc import Callable
from functools import partial

from torch import nn
from transformers import EvalPrediction
from transformers.utils import logging

from flux_hf.evaluation.metrics import UNREADABLE, accuracy_at_budgets
from flux_hf.training.augmentation import ClipAugmentation
from flux_hf.training.evaluated_trainer import EvaluatedTrainer
from flux_hf.training.label_symmetries import load_label_symmetries
from flux_hf.training.moving_average import MovingAverage
from flux_hf.training.objective import flux_loss_parts
from flux_hf.training.training_clips import TrainingCollator, ViewMaker

logger = logging.get_logger(__name__)


class FluxTrainer(EvaluatedTrainer):
    """Fine-tunes a classifier that is a [`FluxModel`]; `args` are [`FluxTrainingArguments`].

    Data sets are what `load_video_dataset` or `cache_clips` returns (a streamed one only for training, with
    `max_steps`); then this class samples grids, decodes, augments and mixes. Any other torch data set is used as it is,
    its items holding `pixel_values_videos` and `labels`; a batch that also holds `token_budget` is trained at that
    budget alone.

    `evaluate` gives `eval_top1_{budget}` and `eval_top5_{budget}` for every budget in one pass over the videos. Pixels
    are those of the processor (`processing_class`), as in `flux_hf.evaluation` with one clip and one crop. The loss in
    the log is the sum of its parts, which are logged beside it. A `compute_metrics` of your own gets the predictions at
    one budget (clips, classes) and is called for each: its metrics get names with the budget, and those of the largest
    budget their own names, too; videos that could not be read are left out.

    Raises:
        FloatingPointError: during training, when the loss is not finite; names step, grid and videos.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        of_one_budget = self.compute_metrics
        self.compute_metrics = self._accuracy if of_one_budget is None else partial(self._at_budgets, of_one_budget)
        self.moving_average = None
        if self.args.ema_decay is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("ema_decay does not work with FSDP or DeepSpeed, which hold weights in shards")
            self.moving_average = MovingAverage(self.model, self.args.ema_decay, lambda: self.resumed_from)
            self.add_callback(self.moving_average)

    def view_maker(self, label_names: list[str]) -> ViewMaker:
        self._name_labels(label_names)
        augmentation = ClipAugmentation(self.args, self.processing_class.image_mean, self.processing_class.image_std)
        symmetries = None
        if self.args.label_symmetries is not None:
            symmetries = load_label_symmetries(self.args.label_symmetries, label_names)
            if symmetries.mirrors and self.args.flip:
                raise ValueError(
                    f"flip mirrors clips and keeps their labels, label_symmetries {self.args.label_symmetries} changes "
                    "them: set flip to false"
                )
        return ViewMaker(
            augmentation, self.args.views_per_video, min_span=self.args.min_clip_span, symmetries=symmetries
        )

    def collator(self, label_names: list[str]) -> TrainingCollator:
        return TrainingCollator(self.args, len(label_names))

    def _name_labels(self, names: list[str]) -> None:
        known = self.flux_model.label_names
        if len(names) != len(known):
            raise ValueError(f"the data set has {len(names)} labels, the model has {len(known)}")
        if known != names:
            logger.info("the model takes the label names of the data set")
            self.flux_model.rename_labels(names)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self._note_unreadable(inputs.get("unreadable", ()))
        pixels, labels = inputs["pixel_values_videos"], inputs["labels"]
        budgets = [inputs["token_budget"]] if "token_budget" in inputs else self._budgets_of_step()
        output = model(pixel_values_videos=pixels, token_budgets=budgets)
        parts = flux_loss_parts(
            output,
            labels,
            budgets,
            alignment_weight=self.args.alignment_weight,
            label_smoothing=self.args.label_smoothing_factor,
        )
        loss = self.finite(sum(parts.values()), parts, inputs)
        return (loss, output) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss (mean over the budgets), logits (batch, budgets, classes) and labels."""
        logits, labels = self.at_budgets(model, inputs, lambda output: output.logits, len(self.flux_model.label_names))
        targets = labels[:, None].expand(-1, logits.shape[1])
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=UNREADABLE)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)

    def _accuracy(self, prediction: EvalPrediction) -> dict[str, float]:
        return accuracy_at_budgets(prediction.predictions, prediction.label_ids, self.eval_token_budgets)

    def _at_budgets(self, of_one_budget: Callable, prediction: EvalPrediction, **kwargs) -> dict[str, float]:
        read = prediction.label_ids != UNREADABLE
        found = {}
        for place, budget in enumerate(self.eval_token_budgets):
            metrics = of_one_budget(
                EvalPrediction(
                    prediction.predictions[read, place],
                    prediction.label_ids[read],
                    inputs=prediction.inputs,
                    losses=prediction.losses,
                ),
                **kwargs,
            )
            found = metrics | found | {f"{name}_{budget}": value for name, value in metrics.items()}
        return found

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """As in `Trainer`; with `ema_decay` on the averaged weights."""
        if self.moving_average is None:
            return super().evaluate(*args, **kwargs)
        with self.moving_average.in_place():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`; with `ema_decay` the averaged weights. Checkpoints that training goes on from have them
        beside the trained ones."""
        if self.moving_average is None:
            return super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None:  # a checkpoint; push_to_hub names no folder
            super().save_model(output_dir, _internal_call)
            if self.args.should_save:
                self.moving_average.save(output_dir)
            return None
        with self.moving_average.in_place():
            return super().save_model(output_dir, _internal_call)
