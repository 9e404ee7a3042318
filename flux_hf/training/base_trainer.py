"""The HF Trainer on video data: grids, clips, streams, resumed runs, skipped videos, parts of the loss in the log."""

import time
from collections import defaultdict
from pathlib import Path

import datasets
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from flux_hf.data import CachedClips, clip_source
from flux_hf.files import read_json
from flux_hf.hub.model_card import build_model_card
from flux_hf.processes import end_with_parent
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import recipe_of
from flux_hf.training.budgets import check_flux_model, check_reached, fit_processor, set_budgets
from flux_hf.training.checkpointed_trainer import CheckpointedTrainer
from flux_hf.training.grids import training_grids
from flux_hf.training.optimizer import parameter_groups
from flux_hf.training.sampling import EpochOfSampler, GridBatchSampler
from flux_hf.training.streaming import StreamedBatches
from flux_hf.training.training_clips import TrainingClips

logger = logging.get_logger(__name__)


class ClipTrainer(CheckpointedTrainer):
    """What [`FluxTrainer`] and [`FluxPreTrainer`] share. A subclass says which views to make (`view_maker`), how to
    batch them (`collator`) and what the loss is (`compute_loss`, through `finite`). The model is a [`FluxModel`] and
    becomes one for `token_budgets`, and no others, see `set_budgets`; the processor loses the grids of those others.

    Data sets are what `load_video_dataset` or `cache_clips` returns (a streamed one only for training, with
    `max_steps`); then this class samples grids, decodes and augments. Any other torch data set is used as it is.

    The log holds `data_seconds`, the time that a step waited for its clips, and `step_seconds`, forward and backward;
    both per optimiser step, mean over the processes.
    """

    # compute_loss gives means over the batch.
    loss_is_scaled_for_ga = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.snap_to_keyframes and isinstance(self.train_dataset, CachedClips):
            raise ValueError("snap_to_keyframes needs video files, a cache of decoded clips has no key frames")
        model = self.flux_model
        check_flux_model(model)
        if self.args.attn_implementation is not None:
            if not hasattr(model, "set_attn_implementation"):
                raise ValueError(f"attn_implementation: {type(model).__name__} has its own attention, leave it out")
            model.set_attn_implementation(self.args.attn_implementation)
        before = model.token_budgets
        self.token_budgets = sorted(self.args.token_budgets or before, reverse=True)
        set_budgets(model, self.token_budgets, logger.warning if self.is_world_process_zero() else logger.info)
        self.fit_processing(before)
        self._parts, self._seconds, self._timed_steps = defaultdict(list), defaultdict(float), 0
        self._unreadable, self._unreadable_count = set(), 0
        self._restore_random_state = False

    def _build_accelerator_args(self, **kwargs) -> dict:
        """As in `Trainer`, which looks for parameters without gradients only where no layer is checkpointed: heads of
        other budgets have none, nor has V-JEPA 2's predictor. Only re-entrant checkpoints forbid it."""
        # Two names: of Transformers up to 5.23, and of later ones.
        kinds = [getattr(self.args, f"{name}_checkpointing_kwargs", None) or {} for name in ("gradient", "activation")]
        if self.args.ddp_find_unused_parameters is None and not any(kind.get("use_reentrant") for kind in kinds):
            self.args.ddp_find_unused_parameters = True
        return super()._build_accelerator_args(**kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """As in [`CheckpointedTrainer`]. A streamed data set goes on at the batch where the checkpoint was written,
        without decoding what comes before it."""
        if isinstance(self.train_dataset, datasets.IterableDataset):
            self.args.ignore_data_skip = True
            self._restore_random_state = True
        return super().train(resume_from_checkpoint, **kwargs)

    def grids(self) -> list[Grid]:
        """The grids that training draws from."""
        return training_grids(self.args, self.flux_model.patch_shape)

    @property
    def flux_model(self) -> torch.nn.Module:
        """What is trained, without the wrappers of torch and accelerate: a [`FluxModel`], or an adapter around one."""
        return self.accelerator.unwrap_model(self.model)

    def model_of_card(self) -> torch.nn.Module:
        """The part of the model that its card describes."""
        return self.flux_model

    @property
    def video_processor(self) -> FluxVideoProcessor:
        """What makes pixels of videos: `processing_class`, or a part of it."""
        return self.processing_class

    def fit_processing(self, before: list[int]) -> None:
        """Make `processing_class` one for `token_budgets`; the model was one for the budgets `before`."""
        if self.processing_class is None:
            self.processing_class = FluxVideoProcessor.for_model(self.flux_model)
        self.processing_class = fit_processor(self.processing_class, before, self.token_budgets)

    def clip_source(self, dataset):
        """What clips of a data set are read from, see [`clip_source`]; None where it is used as it is."""
        return clip_source(dataset, self.args.decode_short_side, self.args.snap_to_keyframes)

    def view_maker(self, label_names: list[str] | None):
        """What makes the views of a decoded video, see [`ViewMaker`]. `label_names`: None where videos have none."""
        raise NotImplementedError

    def collator(self, label_names: list[str] | None):
        """What makes a batch of [`TrainingItem`]s."""
        raise NotImplementedError

    def sampler_options(self, source) -> dict:
        """Further arguments of [`GridBatchSampler`] for a clip source."""
        return {}

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        streamed = isinstance(self.train_dataset, datasets.IterableDataset)
        source = None if streamed else self.clip_source(self.train_dataset)
        if not streamed and source is None:
            return super().get_train_dataloader()
        tubelet_size, patch_size = self.flux_model.patch_shape
        largest = max(grid_tokens(grid, patch_size, tubelet_size) for grid in self.grids())
        check_reached(self.flux_model, self.token_budgets, largest)
        names = getattr(self.train_dataset.features["label"], "names", None) if streamed else source.label_names
        if args.torch_compile:
            # One graph for every grid and budget; dynamic shapes are slower than that.
            torch._dynamo.config.automatic_dynamic_shapes = False
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(self.grids()))
        make_views, collate = self.view_maker(names), self.collator(names)
        if streamed:
            return self._streamed_loader(make_views, collate)
        sampler = GridBatchSampler(
            len(source),
            self._train_batch_size,
            self.grids(),
            batches_per_step=args.world_size * args.gradient_accumulation_steps,
            seed=args.seed,
            **self.sampler_options(source),
        )
        if left := len(source) - len(sampler) * self._train_batch_size:
            unfilled = f"{left} of {len(source)} videos do not fill a step; every epoch leaves out as many"
            if sampler.period:
                logger.warning(f"{unfilled}, the same again after {sampler.period} (view_epochs): some may never come")
            else:
                logger.info(f"{unfilled}, others")
        clips = TrainingClips(source, make_views, seed=args.seed, max_unreadable=args.max_unreadable_in_a_row)
        loader = DataLoader(clips, batch_sampler=sampler, collate_fn=collate, **self._loader_options())
        self.add_callback(EpochOfSampler(sampler))
        return self.accelerator.prepare(loader)

    def _streamed_loader(self, make_views, collate) -> DataLoader:
        args, start = self.args, 0
        if self.resumed_from:
            state = read_json(Path(self.resumed_from) / TRAINER_STATE_NAME)
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
            snap_to_keyframes=args.snap_to_keyframes,
            max_unreadable=args.max_unreadable_in_a_row,
            start=start,
        )
        loader = DataLoader(batches, batch_size=None, collate_fn=collate, **self._loader_options())
        # The stream knows its process: accelerate only moves batches to the device.
        return prepare_data_loader(loader, args.device, num_processes=1, process_index=0, put_on_device=True)

    def get_batch_samples(self, *args, **kwargs):
        """As in `Trainer`, which in a resumed run sets random numbers back only after batches it has skipped itself."""
        started = time.perf_counter()
        samples = super().get_batch_samples(*args, **kwargs)
        self._seconds["data_seconds"] += time.perf_counter() - started
        self._timed_steps += 1
        if self._restore_random_state:
            self._load_rng_state(self.resumed_from)
            self._restore_random_state = False
        return samples

    def training_step(self, *args, **kwargs):
        """As in `Trainer`, with its time taken."""
        started = time.perf_counter()
        loss = self.forward_backward(*args, **kwargs)
        self._seconds["step_seconds"] += time.perf_counter() - started
        return loss

    def forward_backward(self, *args, **kwargs):
        """What `Trainer` does in `training_step`."""
        return super().training_step(*args, **kwargs)

    def _loader_options(self, persistent: bool = True) -> dict:
        args = self.args
        return {
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers and persistent and args.dataloader_num_workers > 0,
            "worker_init_fn": end_with_parent,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            # Workers take their seeds from here, so that making them draws nothing from the generator of dropout.
            "generator": torch.Generator().manual_seed(args.seed),
        }

    def finite(self, loss: torch.Tensor, parts: dict[str, torch.Tensor], inputs: dict) -> torch.Tensor:
        """The loss, after its parts are noted for the log.

        Raises:
            FloatingPointError: it is not finite; names step, grid and videos.
        """
        if not torch.isfinite(loss):
            values = {name: part.item() for name, part in parts.items()}
            pixels = inputs["pixel_values_videos"]
            raise FloatingPointError(
                f"the loss is not finite at step {self.state.global_step}: {values}, grid {pixels.shape[1]} frames x "
                f"{pixels.shape[-1]} pixels, videos {inputs.get('names', 'without names')}"
            )
        for name, part in parts.items():
            self._parts[name].append(part.detach())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`; a line with the training loss also gets its parts, the number of skipped videos and where
        the time of a step went."""
        if "loss" in logs and self._parts:
            means = torch.stack([torch.stack(values).mean() for values in self._parts.values()])
            means = self.accelerator.reduce(means, "mean").tolist()
            logs |= dict(zip(self._parts, means, strict=True))
            skipped = torch.tensor(self._unreadable_count, device=self.args.device)
            if skipped := int(self.accelerator.reduce(skipped, "sum")):
                logs["unreadable_videos"] = skipped
            seconds = torch.tensor([*self._seconds.values()], device=self.args.device) / max(self._timed_steps, 1)
            logs |= dict(zip(self._seconds, self.accelerator.reduce(seconds, "mean").tolist(), strict=True))
            self._seconds.clear()
            self._timed_steps = 0
            self._parts.clear()
        super().log(logs, start_time)

    def _note_unreadable(self, entries) -> None:
        for name, reason in entries:
            self._unreadable_count += 1
            if name not in self._unreadable:
                self._unreadable.add(name)
                logger.warning(f"skipped in training: {reason}")

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            wrapped = self.model if model is None else model
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, wrapped)
            groups = parameter_groups(
                self.accelerator.unwrap_model(wrapped),
                wrapped.named_parameters(),
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                layer_decay=self.args.layer_decay,
            )
            self.optimizer = optimizer(groups, **options)
        return self.optimizer

    def create_model_card(
        self,
        dataset: str | list[str] | None = None,
        finetuned_from: str | None = None,
        teacher: str | None = None,
        **_,
    ) -> None:
        """Writes the card of `flux_hf.hub` to `output_dir`: what `push_to_hub` uploads. Other arguments of `Trainer`'s
        have no place in it."""
        if not self.is_world_process_zero():
            return
        self.save_state()
        folder = Path(self.args.output_dir)
        origin = {"dataset": dataset, "model": finetuned_from, "teacher": teacher}
        card = build_model_card(
            folder,
            self.hub_model_id or folder.name,
            self.model_of_card(),
            self.processing_class,
            recipe={name: value for name, value in origin.items() if value} | recipe_of(self.args),
        )
        card.save(folder / "README.md")
