"""A dual encoder as a classifier whose classes are sentences: for zero-shot accuracy, and for Token Optimization."""

from collections.abc import Callable, Sequence

import torch
from datasets import ClassLabel, Dataset
from torch import nn

from flux_hf.modeling.flux_model_fluxvit import FluxViTClassifierOutput
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.modeling.token_selection_fluxvit import SelectionRule
from flux_hf.processing.prompt_templates_fluxvit import DEFAULT_TEMPLATE, embed_labels, prompt_templates
from flux_hf.text.embedding import embed_texts


class TextClassifier(nn.Module):
    """The video tower of a dual encoder with classes made of sentences. It answers what evaluation and Token
    Optimization ask of a `FluxModel`.

    Args:
        model: the dual encoder, which is shared, not copied.
        names: name of every class.
        text_embeds: (texts, width), unit length.
        owners: for each text the number of its class; the logit of a class is that of its nearest text.
    """

    def __init__(self, model: FluxViTClipModel, names: Sequence[str], text_embeds: torch.Tensor, owners: Sequence[int]):
        super().__init__()
        self.model = model
        self.label_names = list(names)
        self.register_buffer("text_embeds", text_embeds.to(model.device))
        self.register_buffer("owners", torch.tensor(list(owners), device=model.device))

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        token_budget: int | None = None,
        token_selection: str | SelectionRule | Callable | None = None,
    ) -> FluxViTClassifierOutput:
        """`logits` (videos, classes), the model's own."""
        videos = self.model.get_video_features(
            pixel_values_videos, token_budget=token_budget, token_selection=token_selection
        ).pooler_output
        similar = self.model.compare(videos.float(), self.text_embeds)
        classes = similar.new_full((len(similar), len(self.label_names)), -torch.inf)
        nearest = classes.scatter_reduce(1, self.owners.expand_as(similar), similar, "amax")
        return FluxViTClassifierOutput(logits=nearest)

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


def zero_shot_classifier(
    model: FluxViTClipModel, processor, label_names: Sequence[str], templates: str | Sequence[str]
) -> TextClassifier:
    """A classifier of labels by their names, in which an underscore stands for a space.

    Args:
        processor: the model's.
        templates: as of `prompt_templates`; a class is the mean of what its prompts say.

    Raises:
        ValueError: the labels are numbers, which say nothing, or a template has no place for a name.
    """
    if all(name.isdecimal() for name in label_names):
        raise ValueError("zero-shot recognition needs names of the labels, and the data set has numbers only")
    embeds = embed_labels(
        lambda sentences: torch.from_numpy(embed_texts(model, processor, sentences)),
        [name.replace("_", " ") for name in label_names],
        templates,
    )
    return TextClassifier(model, label_names, embeds, range(len(label_names)))


def templates_of(given: Sequence[str] | None) -> tuple[str, ...]:
    """The templates that an option of a command means: sentences, the name of one set, or nothing for the default.

    Raises:
        ValueError: one has no place for a name.
    """
    given = given or [DEFAULT_TEMPLATE]
    return prompt_templates(given[0] if len(given) == 1 else given)


def retrieval_classifier(model: FluxViTClipModel, processor, dataset: Dataset) -> TextClassifier:
    """A classifier whose classes are the captions of `labelled_by_captions(dataset)`: it is right about a video where
    one of its captions is the nearest of all, which is R@1 from video to text."""
    names = dataset.features["label"].names
    captions = {}
    for label, texts in zip(dataset["label"][:], dataset["captions"][:], strict=True):
        captions[label] = texts
    texts = [text for label in range(len(names)) for text in captions[label]]
    owners = [label for label in range(len(names)) for _ in captions[label]]
    return TextClassifier(model, names, torch.from_numpy(embed_texts(model, processor, texts)), owners)


def labelled_by_captions(dataset: Dataset) -> Dataset:
    """A data set of pairs with a new column `label`: what is said of a video is its class, and videos of which the same
    is said are of one class."""
    names = [" / ".join(sorted(texts)) for texts in dataset["captions"][:]]
    different = sorted(set(names))
    numbers = {name: number for number, name in enumerate(different)}
    if "label" in dataset.column_names:
        dataset = dataset.remove_columns("label")
    return dataset.add_column("label", [numbers[name] for name in names], feature=ClassLabel(names=different))
