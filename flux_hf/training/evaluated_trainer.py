"""Training with several budgets in a step, and evaluation at several budgets in one pass over the videos."""

import math
import random
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers.utils import logging

from flux_hf.training.base_trainer import ClipTrainer
from flux_hf.training.evaluation_clips import EvaluationClips, collate_evaluation

logger = logging.get_logger(__name__)


class EvaluatedTrainer(ClipTrainer):
    """What [`FluxTrainer`] and [`FluxAligningTrainer`] share."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.eval_token_budgets = sorted(self.args.eval_token_budgets or self.token_budgets, reverse=True)
        if self.args.freeze == "backbone":
            self.flux_model.freeze_encoder()

    def train(self, *args, **kwargs):
        """As in [`ClipTrainer`], with as many epochs as `min_steps` takes."""
        options, clips = self.args, self.train_dataset
        if options.min_steps and options.max_steps <= 0 and not isinstance(clips, IterableDataset):
            of_a_step = options.train_batch_size * options.world_size * options.gradient_accumulation_steps
            needed = math.ceil(options.min_steps / max(len(clips) // of_a_step, 1))
            if needed > options.num_train_epochs:
                if self.is_world_process_zero():
                    logger.warning(
                        f"{needed} epochs, not {options.num_train_epochs:g}: min_steps is {options.min_steps}, "
                        f"and an epoch of {len(clips)} clips is {len(clips) // of_a_step} x {of_a_step}"
                    )
                options.num_train_epochs = needed
        return super().train(*args, **kwargs)

    def evaluation_source(self, dataset):
        """What clips to evaluate on are read from; None where the data set is used as it is."""
        return self.clip_source(dataset)

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        source = self.evaluation_source(dataset)
        if source is None:
            return super().get_eval_dataloader(eval_dataset)
        clips = EvaluationClips(source, self.video_processor, self.eval_token_budgets)
        loader = DataLoader(
            clips, self.args.eval_batch_size, collate_fn=collate_evaluation, **self._loader_options(persistent=False)
        )
        return self.accelerator.prepare(loader)

    def get_test_dataloader(self, test_dataset) -> DataLoader:
        """For `predict`: as for `evaluate`."""
        return self.get_eval_dataloader(test_dataset)

    def _budgets_of_step(self) -> list[int]:
        if not self.args.one_budget_per_step:
            return self.token_budgets
        return [random.Random(f"{self.args.seed} {self.state.global_step}").choice(self.token_budgets)]

    def at_budgets(self, model, inputs: dict, answer: Callable, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model says of a batch of evaluation at every budget (batch, budgets, width); labels (batch,).

        Args:
            answer: takes (clips, width) out of the model's output.
        """
        for _, reason in inputs.pop("unreadable", ()):
            logger.warning(f"left out of the evaluation: {reason}")
        inputs = self._prepare_inputs(inputs)
        pixels, labels = inputs["pixel_values_videos"], inputs["labels"]
        if isinstance(pixels, torch.Tensor):
            forwards = [(pixels, list(range(len(pixels))), budget) for budget in self.eval_token_budgets]
        else:
            forwards = [(pixels[group], rows, budget) for group, rows, budget in inputs["forwards"]]
        answers = torch.zeros(len(labels), len(self.eval_token_budgets), width, device=labels.device)
        with torch.no_grad(), self.compute_loss_context_manager():
            for clips, rows, budget in forwards:
                found = answer(model(pixel_values_videos=clips, token_budget=budget))
                answers[rows, self.eval_token_budgets.index(budget)] = found.to(answers)
            self._make_up_forwards(model, len(forwards))
        return answers, labels

    def _make_up_forwards(self, model, count: int) -> None:
        """Run as many forwards as the process with the most: where weights are in shards, each needs all processes."""
        if self.accelerator.num_processes > 1:
            most = int(self.accelerator.gather(torch.tensor([count], device=self.args.device)).max())
            frames, size = self.flux_model.patch_shape
            patch = torch.zeros(1, frames, self.flux_model.num_channels, size, size)
            for _ in range(most - count):
                model(pixel_values_videos=patch.to(self.args.device), token_budget=1)
