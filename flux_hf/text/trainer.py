"""The HF Trainer that aligns videos with text: Flux sampling, contrastive loss, retrieval at several budgets."""

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import EvalPrediction
from transformers.utils import logging

from flux_hf.evaluation.metrics import UNREADABLE
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.text.captioned_clips import CachedPairs, CaptionedViews, NumberedClips, PairCollator
from flux_hf.text.embedding import embed_texts
from flux_hf.text.gradient_cache import cached_backward
from flux_hf.text.pairs import PairRows, is_pairs
from flux_hf.text.retrieval import retrieval_figures
from flux_hf.training.augmentation import ClipAugmentation
from flux_hf.training.budgets import fit_processor
from flux_hf.training.evaluated_trainer import EvaluatedTrainer
from flux_hf.training.training_clips import ViewMaker

logger = logging.get_logger(__name__)

MOST_KEPT_TEXTS = 2**20
"""Different texts whose features a process keeps in memory, where the text tower is frozen."""


class FluxAligningTrainer(EvaluatedTrainer):
    """Aligns a [`FluxViTClipModel`]; `args` are [`FluxAligningArguments`], `processing_class` is a
    [`FluxViTClipProcessor`].

    Data sets are what `load_pairs` or `cache_pairs` returns (a streamed one only for training, with `max_steps`); then
    this class samples grids, decodes, augments and draws a caption of each video for each epoch. Any other torch data
    set is used as it is, its items holding `pixel_values_videos`, `input_ids` and `attention_mask`.

    The loss is that of [`FluxViTClipModel.loss_parts`]: contrastive at every budget, over the batches of all processes,
    pairs with the same text sharing the probability, and the distance of smaller budgets to the largest; its parts are
    in the log. Where the text tower is frozen, what it says of a text is computed once.

    `evaluate` gives for every budget, in one pass over the videos, `eval_r1_{budget}`, the share of captions that find
    their video among all, and `eval_video_to_text_r1_{budget}`, that of videos that find one of their captions, as
    `retrieval_figures` counts them; and `eval_chance_r1`, what a random order would give the captions.

    Raises:
        ValueError: a batch has one pair, `pairs_per_chunk` does not go with FSDP or DeepSpeed, or `processing_class` is
            missing.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.pairs_per_chunk is not None and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError(
                "pairs_per_chunk does not work with FSDP or DeepSpeed, which run backward passes themselves"
            )
        if self.train_dataset is not None and self.args.train_batch_size * self.args.world_size < 2:
            raise ValueError(
                "per_device_train_batch_size 1: a pair learns by being told apart from the others of its batch; 2 are "
                "the least"
            )
        self._kept_texts, self._evaluated = {}, None
        self.compute_metrics = self.compute_metrics or self._recalls
        if isinstance(self.train_dataset, IterableDataset) and is_pairs(self.train_dataset):
            self.train_dataset = self.train_dataset.rename_column("captions", "label")

    @property
    def video_processor(self) -> FluxVideoProcessor:
        return self.processing_class.video_processor

    def fit_processing(self, before: list[int]) -> None:
        if self.processing_class is None:
            raise ValueError("processing_class must be a FluxViTClipProcessor: aligning needs its tokenizer")
        self.processing_class.video_processor = fit_processor(self.video_processor, before, self.token_budgets)

    def clip_source(self, dataset) -> PairRows | CachedPairs | None:
        if isinstance(dataset, CachedPairs):
            return dataset
        if isinstance(dataset, Dataset) and is_pairs(dataset):
            return PairRows(dataset, self.args.decode_short_side, self.args.snap_to_keyframes)
        return None

    def evaluation_source(self, dataset) -> NumberedClips | None:
        source = self.clip_source(dataset)
        if source is None:
            return None
        self._evaluated = source.labels
        return NumberedClips(source)

    def view_maker(self, label_names: None) -> CaptionedViews:
        processor = self.video_processor
        augmentation = ClipAugmentation(self.args, processor.image_mean, processor.image_std)
        return CaptionedViews(ViewMaker(augmentation, self.args.views_per_video, min_span=self.args.min_clip_span))

    def collator(self, label_names: None) -> PairCollator:
        return PairCollator(None if self._keeps_texts else self.processing_class)

    @property
    def _keeps_texts(self) -> bool:
        return self.flux_model.config.freeze_text

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self._note_unreadable(inputs.get("unreadable", ()))
        batch = self._model_inputs(inputs)
        output = model(**batch)
        parts = self._loss_parts(output, inputs, batch["token_budgets"])
        loss = self.finite(sum(parts.values()), parts, inputs)
        return (loss, output) if return_outputs else loss

    def forward_backward(self, model, inputs, num_items_in_batch=None):
        """As in `Trainer`; with `pairs_per_chunk` in chunks, see [`cached_backward`]."""
        if self.args.pairs_per_chunk is None:
            return super().forward_backward(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        self._note_unreadable(inputs.get("unreadable", ()))
        batches = self.current_gradient_accumulation_steps

        def mean_parts(output) -> dict[str, torch.Tensor]:
            parts = self._loss_parts(output, inputs, batch["token_budgets"])
            return {name: part / batches for name, part in parts.items()}

        with self.compute_loss_context_manager():
            batch = self._model_inputs(inputs)
            means = cached_backward(model, batch, self.args.pairs_per_chunk, mean_parts, self.accelerator.backward)
        parts = {name: part * batches for name, part in means.items()}
        return self.finite(sum(parts.values()), parts, inputs) / batches

    def _model_inputs(self, inputs: dict) -> dict:
        """What the model is given of a batch: of its texts the tokens, or the features of a frozen tower."""
        wanted = {"pixel_values_videos": inputs["pixel_values_videos"], "token_budgets": self._budgets_of_step()}
        if self._keeps_texts and "texts" in inputs:
            return wanted | {"text_features": self.kept_text_features(inputs["texts"])}
        names = self.processing_class.tokenizer.model_input_names
        return wanted | {name: inputs[name] for name in names if name in inputs}

    def _loss_parts(self, output, inputs: dict, token_budgets: list[int]) -> dict[str, torch.Tensor]:
        return self.flux_model.loss_parts(
            output, inputs.get("labels"), token_budgets, alignment_weight=self.args.alignment_weight
        )

    @torch.no_grad()
    def kept_text_features(self, texts: list[str]) -> torch.Tensor:
        """What the frozen text tower says of `texts`, (texts, width): each text is computed once. Features are float32
        whatever the precision of training."""
        kept, new = self._kept_texts, {}
        if missing := sorted(set(texts) - kept.keys()):
            tokens = self.processing_class(text=missing, return_tensors="pt").to(self.args.device)
            features = self.flux_model.text_features(**tokens).float().cpu()
            new = dict(zip(missing, features, strict=True))
            if len(kept) + len(new) <= MOST_KEPT_TEXTS:
                kept |= new
        return torch.stack([new[text] if text in new else kept[text] for text in texts]).to(self.args.device)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """No loss, embeddings (batch, budgets, width) and numbers of the videos."""
        width = self.flux_model.config.projection_dim
        embeds, numbers = self.at_budgets(model, inputs, lambda output: output.video_embeds, width)
        return None, embeds, numbers

    def _recalls(self, prediction: EvalPrediction) -> dict[str, float]:
        embeds, numbers = prediction.predictions, prediction.label_ids
        read = np.flatnonzero(numbers != UNREADABLE)
        metrics = {"unreadable": int(len(numbers) - len(read))} if len(read) < len(numbers) else {}
        if not len(read):
            return metrics
        captions = [self._evaluated[number] for number in numbers[read]]
        texts = [text for of_video in captions for text in of_video]
        owners = [video for video, of_video in enumerate(captions) for _ in of_video]
        text_embeds = embed_texts(self.flux_model, self.processing_class, texts)
        for place, budget in enumerate(self.eval_token_budgets):
            figures = retrieval_figures(text_embeds, embeds[read, place], owners)
            metrics[f"r1_{budget}"] = figures["text_to_video"]["r1"]
            metrics[f"video_to_text_r1_{budget}"] = figures["video_to_text"]["r1"]
        return metrics | {"chance_r1": figures["text_to_video"]["chance"]["r1"]}
