"""The HF Trainer with Flux sampling, the Flux objective and evaluation at several budgets."""

import json
import random
from collections import defaultdict
from pathlib import Path

import datasets
import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from flux_hf.data import clip_source
from flux_hf.evaluation.metrics import UNREADABLE, accuracy_at_budgets
from flux_hf.hub.model_card import build_model_card
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import recipe_of
from flux_hf.training.augmentation import ClipAugmentation
from flux_hf.training.evaluation_clips import EvaluationClips, collate_evaluation
from flux_hf.training.grids import admissible_grids
from flux_hf.training.moving_average import MovingAverage
from flux_hf.training.objective import flux_loss_parts
from flux_hf.training.optimizer import freeze_backbone, parameter_groups
from flux_hf.training.sampling import EpochOfSampler, GridBatchSampler
from flux_hf.training.streaming import StreamedBatches
from flux_hf.training.training_clips import TrainingClips, TrainingCollator, ViewMaker

logger = logging.get_logger(__name__)


class FluxTrainer(Trainer):
    """Fine-tunes a `FluxViTForVideoClassification`; `args` are [`FluxTrainingArguments`].

    Data sets are what `load_video_dataset` or `cache_clips` returns (a streamed one only for training, with
    `max_steps`); then this class samples grids, decodes, augments and mixes. Any other torch data set is used as it is,
    its items holding `pixel_values_videos` and `labels`; a batch that also holds `token_budget` is trained at that
    budget alone.

    `evaluate` gives `eval_top1_{budget}` and `eval_top5_{budget}` for every budget in one pass over the videos, each on
    the grid that the processor (`processing_class`) has for it. The loss in the log is the sum of its parts, which are
    logged beside it.

    Raises:
        FloatingPointError: during training, when the loss is not finite; names step, grid and videos.
    """

    # compute_loss gives means over the batch.
    loss_is_scaled_for_ga = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        config = self.accelerator.unwrap_model(self.model).config
        if self.processing_class is None:
            self.processing_class = FluxVideoProcessor(patch_size=config.patch_size)
        self.token_budgets = sorted(self.args.token_budgets or config.head_token_budgets, reverse=True)
        self.eval_token_budgets = sorted(self.args.eval_token_budgets or self.token_budgets, reverse=True)
        self.accelerator.unwrap_model(self.model).fluxvit.resolve_heads(self.token_budgets)
        if self.compute_metrics is None:
            self.compute_metrics = self._accuracy
        if self.args.freeze == "backbone":
            freeze_backbone(self.model)
        self.moving_average = None
        if self.args.ema_decay is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("ema_decay does not work with FSDP or DeepSpeed, which hold weights in shards")
            self.moving_average = MovingAverage(self.model, self.args.ema_decay)
            self.add_callback(self.moving_average)
        self._parts = defaultdict(list)
        self._unreadable, self._unreadable_count = set(), 0
        self._resumed_from, self._restore_random_state = None, False

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """As in `Trainer`. A streamed data set goes on at the batch where the checkpoint was written, without decoding
        what comes before it."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"resume_from_checkpoint: there is no checkpoint in {self.args.output_dir}")
        self._resumed_from = resume_from_checkpoint or None
        if self.moving_average is not None:
            self.moving_average.resumed_from = self._resumed_from
        if isinstance(self.train_dataset, datasets.IterableDataset):
            self.args.ignore_data_skip = True
            self._restore_random_state = self._resumed_from is not None
        return super().train(resume_from_checkpoint=self._resumed_from, **kwargs)

    def grids(self) -> list[tuple[int, int]]:
        """The (frames, size) pairs that training draws from."""
        args = self.args
        return admissible_grids(
            (args.min_frames, args.max_frames, args.frames_step),
            (args.min_size, args.max_size, args.size_step),
            (args.min_pool_tokens, args.max_pool_tokens),
            self.model.config.patch_size,
        )

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        streamed = isinstance(self.train_dataset, datasets.IterableDataset)
        source = None if streamed else clip_source(self.train_dataset, args.decode_short_side)
        if not streamed and source is None:
            return super().get_train_dataloader()
        names = self.train_dataset.features["label"].names if streamed else source.label_names
        self._name_labels(names)
        if args.torch_compile:
            # One graph for every grid and budget; dynamic shapes are slower than that.
            torch._dynamo.config.automatic_dynamic_shapes = False
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(self.grids()))
        processor = self.processing_class
        make_views = ViewMaker(
            ClipAugmentation(args, processor.image_mean, processor.image_std),
            args.views_per_video,
            names if args.motion_symmetries else None,
        )
        collate = TrainingCollator(args, len(names))
        if streamed:
            return self._streamed_loader(make_views, collate)
        sampler = GridBatchSampler(
            len(source),
            self._train_batch_size,
            self.grids(),
            batches_per_step=args.world_size * args.gradient_accumulation_steps,
            seed=args.seed,
        )
        if left := len(source) - len(sampler) * self._train_batch_size:
            logger.info(f"{left} of {len(source)} videos do not fill a step; every epoch leaves out as many, others")
        clips = TrainingClips(source, make_views, seed=args.seed, max_unreadable=args.max_unreadable_in_a_row)
        loader = DataLoader(clips, batch_sampler=sampler, collate_fn=collate, **self._loader_options())
        self.add_callback(EpochOfSampler(sampler))
        return self.accelerator.prepare(loader)

    def _name_labels(self, names: list[str]) -> None:
        config = self.model.config
        if len(names) != config.num_labels:
            raise ValueError(f"the data set has {len(names)} labels, the model has {config.num_labels}")
        if [config.id2label[index] for index in range(len(names))] != names:
            logger.info("the model takes the label names of the data set")
            config.id2label = dict(enumerate(names))
            config.label2id = {name: index for index, name in enumerate(names)}

    def _streamed_loader(self, make_views: ViewMaker, collate: TrainingCollator) -> DataLoader:
        args, start = self.args, 0
        if self._resumed_from:
            state = json.loads((Path(self._resumed_from) / "trainer_state.json").read_text())
            start = state["global_step"] * args.gradient_accumulation_steps
        batches = StreamedBatches(
            self.train_dataset,
            make_views,
            batch_size=self._train_batch_size,
            grids=self.grids(),
            accumulation=args.gradient_accumulation_steps,
            rank=args.process_index,
            world_size=args.world_size,
            seed=args.seed,
            shuffle_buffer=args.shuffle_buffer,
            short_side=args.decode_short_side,
            max_unreadable=args.max_unreadable_in_a_row,
            start=start,
        )
        loader = DataLoader(batches, batch_size=None, collate_fn=collate, **self._loader_options())
        # The stream knows its process: accelerate only moves batches to the device.
        return prepare_data_loader(loader, args.device, num_processes=1, process_index=0, put_on_device=True)

    def get_batch_samples(self, *args, **kwargs):
        """As in `Trainer`, which in a resumed run sets random numbers back only after batches it has skipped itself."""
        samples = super().get_batch_samples(*args, **kwargs)
        if self._restore_random_state:
            self._load_rng_state(self._resumed_from)
            self._restore_random_state = False
        return samples

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        source = clip_source(dataset)
        if source is None:
            return super().get_eval_dataloader(eval_dataset)
        clips = EvaluationClips(source, self.processing_class, list(self._budgets_by_grid()))
        loader = DataLoader(
            clips, self.args.eval_batch_size, collate_fn=collate_evaluation, **self._loader_options(persistent=False)
        )
        return self.accelerator.prepare(loader)

    def _loader_options(self, persistent: bool = True) -> dict:
        args = self.args
        return {
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers and persistent and args.dataloader_num_workers > 0,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            # Workers take their seeds from here, so that making them draws nothing from the generator of dropout.
            "generator": torch.Generator().manual_seed(args.seed),
        }

    def _budgets_by_grid(self) -> dict[tuple[int, int], list[int]]:
        by_grid = defaultdict(list)
        for budget in self.eval_token_budgets:
            by_grid[self.processing_class.choose_grid(budget)].append(budget)
        return by_grid

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
        loss = sum(parts.values())
        if not torch.isfinite(loss):
            values = {name: part.item() for name, part in parts.items()}
            raise FloatingPointError(
                f"the loss is not finite at step {self.state.global_step}: {values}, grid {pixels.shape[1]} frames x "
                f"{pixels.shape[-1]} pixels, videos {inputs.get('names', 'without names')}"
            )
        for name, part in parts.items():
            self._parts[name].append(part.detach())
        return (loss, output) if return_outputs else loss

    def _budgets_of_step(self) -> list[int]:
        if not self.args.one_budget_per_step:
            return self.token_budgets
        return [random.Random(f"{self.args.seed} {self.state.global_step}").choice(self.token_budgets)]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`; a line with the training loss also gets its parts and the number of skipped videos."""
        if "loss" in logs and self._parts:
            means = torch.stack([torch.stack(values).mean() for values in self._parts.values()])
            means = self.accelerator.reduce(means, "mean").tolist()
            logs |= dict(zip(self._parts, means, strict=True))
            skipped = torch.tensor(self._unreadable_count, device=self.args.device)
            if skipped := int(self.accelerator.reduce(skipped, "sum")):
                logs["unreadable_videos"] = skipped
            self._parts.clear()
        super().log(logs, start_time)

    def _note_unreadable(self, entries) -> None:
        for name, reason in entries:
            self._unreadable_count += 1
            if name not in self._unreadable:
                self._unreadable.add(name)
                logger.warning(f"skipped in training: {reason}")

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss (mean over the budgets), logits (batch, budgets, classes) and labels."""
        for _, reason in inputs.pop("unreadable", ()):
            logger.warning(f"left out of the evaluation: {reason}")
        inputs = self._prepare_inputs(inputs)
        grids, labels = inputs["pixel_values_videos"], inputs["labels"]
        if isinstance(grids, torch.Tensor):
            answers = [(grids, self.eval_token_budgets)]
        else:
            answers = zip(grids, self._budgets_by_grid().values(), strict=True)
        by_budget = {}
        with torch.no_grad(), self.compute_loss_context_manager():
            for pixels, budgets in answers:
                for budget in budgets:
                    by_budget[budget] = model(pixel_values_videos=pixels, token_budget=budget).logits.float()
        logits = torch.stack([by_budget[budget] for budget in self.eval_token_budgets], dim=1)
        targets = labels[:, None].expand(-1, logits.shape[1])
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=UNREADABLE)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)

    def _accuracy(self, prediction: EvalPrediction) -> dict[str, float]:
        return accuracy_at_budgets(prediction.predictions, prediction.label_ids, self.eval_token_budgets)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """As in `Trainer`; with `ema_decay` on the averaged weights."""
        if self.moving_average is None:
            return super().evaluate(*args, **kwargs)
        with self.moving_average.in_place():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`; with `ema_decay` the averaged weights, except in checkpoints that training goes on from."""
        if self.moving_average is None or _internal_call:
            return super().save_model(output_dir, _internal_call)
        with self.moving_average.in_place():
            return super().save_model(output_dir, _internal_call)

    def create_model_card(self, dataset: str | None = None, finetuned_from: str | None = None, **_) -> None:
        """Writes the card of `flux_hf.hub` to `output_dir`: what `push_to_hub` uploads. Other arguments of `Trainer`'s
        have no place in it."""
        if not self.is_world_process_zero():
            return
        self.save_state()
        folder = Path(self.args.output_dir)
        origin = {name: value for name, value in (("dataset", dataset), ("model", finetuned_from)) if value}
        card = build_model_card(
            folder,
            self.hub_model_id or folder.name,
            self.accelerator.unwrap_model(self.model),
            self.processing_class,
            recipe=origin | recipe_of(self.args),
        )
        card.save(folder / "README.md")

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            wrapped = self.model if model is None else model
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, wrapped)
            groups = parameter_groups(
                wrapped.named_parameters(),
                num_layers=self.accelerator.unwrap_model(wrapped).config.num_hidden_layers,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                layer_decay=self.args.layer_decay,
            )
            self.optimizer = optimizer(groups, **options)
        return self.optimizer
