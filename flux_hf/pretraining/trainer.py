"""The HF Trainer with Flux-UMT: teacher, double mask, alignment of several students to shared targets."""

import time

import torch
from datasets import IterableDataset

from flux_hf.data import clip_source
from flux_hf.modeling.modeling_fluxvit_pretraining import alignment_loss, alignment_losses
from flux_hf.pretraining.masking import gumbel_noise, student_masks, teacher_mask
from flux_hf.pretraining.mixture import MixtureViews, mixed_order
from flux_hf.pretraining.teacher import Teacher, TeacherOutput, matching_layers
from flux_hf.pretraining.teacher_cache import TeacherCache, clip_digest
from flux_hf.training.augmentation import ClipAugmentation
from flux_hf.training.base_trainer import ClipTrainer
from flux_hf.training.training_clips import TrainingItem, ViewMaker, stack_items


class FluxPreTrainer(ClipTrainer):
    """Pre-trains a `FluxViTForPreTraining`; `args` are [`FluxPreTrainingArguments`].

    Data sets are what `load_mixture` returns, a cache of its clips, or any torch data set whose items hold
    `pixel_values_videos`. In a step all clips have one grid. The selector leaves `teacher_tokens` of it, the teacher
    looks at them, and each student budget sees a part of them, drawn by the teacher's saliency. All budgets share the
    targets. The loss of a feature is 2 - 2 cos; that of a budget is the mean over the aligned layers plus that of the
    pooled feature, that of a step the mean over the budgets. The log has every term: `layer{number}_{budget}`,
    `pooled_{budget}`.

    The log also holds `teacher_seconds`, the part of `step_seconds` that the teacher took.

    Args:
        teacher: see [`load_teacher`]. It is no part of the model: neither optimised nor wrapped nor saved.
        teacher_layers: the teacher's layer for each of the model's aligned ones, from 1. Default: [`matching_layers`].
        flips, weights: whether clips of each data set are mirrored, and how often its clips come; one entry for each.
            Default: as `args` says, and by size. A streamed mixture has its weights from `load_mixture`.

    Raises:
        ValueError: widths of model and teacher differ, layers or budgets do not fit, or `teacher_cache`, `view_epochs`
            or `weights` are given for a data set that they cannot serve.
    """

    def __init__(
        self,
        *args,
        teacher: Teacher,
        teacher_layers: list[int] | None = None,
        flips: list[bool] | None = None,
        weights: list[float] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        model = self.flux_model
        self.teacher, self.flips, self.weights = teacher.to(self.args.device), flips, weights
        self.teacher_layers = teacher_layers or matching_layers(
            model.aligned_layers, model.config.num_hidden_layers, teacher.depth
        )
        self._check_fit(model)
        self._check_dataset()
        self.teacher_cache = None
        if self.args.teacher_cache is not None:
            self.teacher_cache = TeacherCache(
                self.args.teacher_cache,
                teacher,
                self.teacher_layers,
                self.args.teacher_tokens,
                self.accelerator.mixed_precision,
                self.accelerator.unwrap_model(self.model).token_selection,
            )

    def _check_fit(self, model) -> None:
        teacher = self.teacher
        widths = (model.layer_decoders[0].norm.normalized_shape[0], model.pooled_decoder.norm.normalized_shape[0])
        if widths != (teacher.width, teacher.pooled_width):
            raise ValueError(
                f"teacher_hidden_size and teacher_projection_dim of the model are {widths}, the teacher has "
                f"{(teacher.width, teacher.pooled_width)}"
            )
        layers = self.teacher_layers
        if len(layers) != len(model.aligned_layers) or min(layers) < 1 or max(layers) > teacher.depth:
            raise ValueError(
                f"teacher_layers must be {len(model.aligned_layers)} numbers in 1..{teacher.depth}, one for each "
                f"student layer {model.aligned_layers}, got {layers}"
            )
        if self.token_budgets[0] > self.args.teacher_tokens:
            raise ValueError(
                f"token_budgets {self.token_budgets} must be at most teacher_tokens ({self.args.teacher_tokens})"
            )

    def _check_dataset(self) -> None:
        given = {"view_epochs": self.args.view_epochs, "weights": self.weights}
        given = [name for name, value in given.items() if value is not None]
        if given and isinstance(self.train_dataset, IterableDataset):
            raise ValueError(f"{', '.join(given)} cannot be had for a streamed data set, whose videos have no numbers")
        if given and clip_source(self.train_dataset) is None:
            raise ValueError(
                f"{', '.join(given)} need videos or a cache of clips, not {type(self.train_dataset).__name__}"
            )

    def model_of_card(self) -> torch.nn.Module:
        """The encoder: the rest is for this teacher."""
        return self.flux_model.base_model

    def view_maker(self, label_names: list[str]) -> MixtureViews:
        mean, std = self.processing_class.image_mean, self.processing_class.image_std
        flips = [self.args.flip] * len(label_names) if self.flips is None else self.flips
        if len(flips) != len(label_names):
            raise ValueError(f"flips must have one entry for each of the data sets {label_names}, got {flips}")
        return MixtureViews(
            [
                ViewMaker(
                    ClipAugmentation(self.args, mean, std, flip=flip),
                    self.args.views_per_video,
                    min_span=self.args.min_clip_span,
                )
                for flip in flips
            ]
        )

    def collator(self, label_names: list[str]) -> "PretrainingCollator":
        return PretrainingCollator(self.args.teacher_cache is not None)

    def sampler_options(self, source) -> dict:
        options = {"period": self.args.view_epochs}
        if self.weights is not None:
            options["order"] = mixed_order(source.labels, self.weights, self.args.seed)
        return options

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self._note_unreadable(inputs.get("unreadable", ()))
        pixels = inputs["pixel_values_videos"]
        keys = inputs.get("keys") or [f"{self.args.process_index} {place}" for place in range(len(pixels))]
        started = self._now()
        with torch.no_grad():
            student = self.accelerator.unwrap_model(model)
            patches = student.get_input_embeddings().patchify(pixels.float())
            seen = teacher_mask(patches, self.args.teacher_tokens, student.token_selection)
            targets = self._targets(pixels, seen, inputs.get("digests"))
            noise = gumbel_noise(self.args.seed, self.state.global_step, keys, targets.saliency.shape[1])
            masks, places = student_masks(seen, targets.saliency, noise.to(seen.device), self.token_budgets)
            features = [layer.gather(1, places[..., None].expand(-1, -1, layer.shape[-1])) for layer in targets.layers]
        self._seconds["teacher_seconds"] += self._now() - started

        output = model(pixel_values_videos=pixels, keep_masks=masks)
        losses = alignment_losses(output, features, targets.pooled)
        parts = {}
        for budget, (layers, pooled) in zip(self.token_budgets, losses, strict=True):
            numbers = self.accelerator.unwrap_model(model).aligned_layers
            parts |= {f"layer{number}_{budget}": part for number, part in zip(numbers, layers, strict=True)}
            parts[f"pooled_{budget}"] = pooled
        loss = self.finite(alignment_loss(losses), parts, inputs)
        return (loss, output) if return_outputs else loss

    def _targets(self, pixels: torch.Tensor, seen: torch.Tensor, digests: list[str] | None) -> TeacherOutput:
        if self.teacher_cache is None:
            return self.teacher(pixels, seen, self.teacher_layers)
        found = self.teacher_cache.get(digests, pixels.device)
        if found is None:
            self.teacher_cache.put(digests, self.teacher(pixels, seen, self.teacher_layers))
            # As they are kept, so that a run that looks them up goes the same way.
            found = self.teacher_cache.get(digests, pixels.device)
        return found

    def _now(self) -> float:
        if self.args.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


class PretrainingCollator:
    """A batch as [`stack_items`] makes it, without labels but with `keys`, one for every view of a run, and, if asked
    for, `digests` of the clips' content."""

    def __init__(self, with_digests: bool):
        self.with_digests = with_digests

    def __call__(self, items: list[TrainingItem]) -> dict:
        batch = stack_items(items)
        del batch["labels"]
        batch["keys"] = [f"{item.key} {view}" for view in range(len(items[0].views)) for item in items]
        if self.with_digests:
            batch["digests"] = [clip_digest(clip) for clip in batch["pixel_values_videos"]]
        return batch
