"""FluxViT as the student of a frozen teacher: Flux-UMT pre-training (arXiv 2503.14237, Table 14).

The outputs of the student's later layers and its pooled feature are mapped to the teacher's width and compared as unit
vectors. Where the paper's text is silent this follows UMT and InternVideo2, whose distillation Flux-UMT extends.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from .configuration_fluxvit import FluxViTConfig
from .layers_fluxvit import FeatureDecoder
from .modeling_fluxvit import FluxViTModel, FluxViTPreTrainedModel
from .token_selection_fluxvit import SelectionRule, kept_positions


@dataclass
class FluxViTForPreTrainingOutput(ModelOutput):
    """
    Args:
        loss: scalar, when targets were given; see [`alignment_loss`].
        last_hidden_state: tokens of the largest set after the last layer, cls first, (batch, 1 + kept, hidden_size).
        layer_features: for every set, for every aligned layer, unit vectors (batch, kept, teacher_hidden_size) of the
            kept tokens without cls.
        pooled_features: for every set unit vectors (batch, teacher_projection_dim).
        keep_masks: for every set bool (batch, frames * rows * columns); None where all tokens are kept.
        hidden_states, attentions: as in [`FluxViTModelOutput`]; of several sets one after the other.
    """

    loss: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    layer_features: tuple[tuple[torch.FloatTensor, ...], ...] | None = None
    pooled_features: tuple[torch.FloatTensor, ...] | None = None
    keep_masks: tuple[torch.BoolTensor | None, ...] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def default_aligned_layers(num_hidden_layers: int) -> list[int]:
    """The last half of the layers, rounded up, but no more than 6, counted from 1: the last 6 of 12 and of 24, as in
    InternVideo2."""
    return list(range(max(num_hidden_layers // 2, num_hidden_layers - 6) + 1, num_hidden_layers + 1))


class FluxViTForPreTraining(FluxViTPreTrainedModel):
    """A FluxViT encoder with one decoder per aligned layer and one for the pooled feature, each to the teacher's width.

    The encoder (`fluxvit`) is that of `FluxViTForVideoClassification`, whose `from_pretrained` takes it from a
    checkpoint of this model; then only classifiers and budget alignment start at random.
    """

    def __init__(self, config: FluxViTConfig):
        super().__init__(config)
        self.fluxvit = FluxViTModel(config)
        self.aligned_layers = config.aligned_layers or default_aligned_layers(config.num_hidden_layers)
        width = config.teacher_hidden_size or config.hidden_size
        self.layer_decoders = nn.ModuleList([FeatureDecoder(config.hidden_size, width) for _ in self.aligned_layers])
        self.pooled_decoder = FeatureDecoder(
            config.projection_dim, config.teacher_projection_dim or config.projection_dim
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.fluxvit.get_input_embeddings()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor,
        keep_masks: list[torch.BoolTensor] | None = None,
        target_features: list[torch.FloatTensor] | None = None,
        target_pooled: torch.FloatTensor | None = None,
        token_selection: str | SelectionRule | Callable | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTForPreTrainingOutput:
        """
        Args:
            pixel_values_videos: see [`FluxViTModel.forward`].
            keep_masks: bool (batch, frames * rows * columns) each, True = kept, the same count in every row; each keeps
                a part of what the one before keeps. Patches are embedded once, and masks of the same count in a row
                share one pass through the encoder. Default: what the selector keeps at `config.token_budget`. Each is
                pooled by the head whose budget is nearest to the tokens kept.
            target_features: for every aligned layer the teacher's features (batch, tokens kept by the first mask,
                teacher_hidden_size) in the order of the tokens; smaller sets take their part of them.
            target_pooled: the teacher's pooled feature (batch, teacher_projection_dim). With both, the output has a
                loss.
            token_selection: see [`FluxViTModel.forward`]; for calls without masks.

        Raises:
            ValueError: on masks that are not nested or differ in count, or only one of the two targets.
        """
        if (target_features is None) != (target_pooled is None):
            raise ValueError("give target_features and target_pooled together, or neither")
        masks = None if keep_masks is None else tuple(keep_masks)
        sequences, masks = self.fluxvit.embeddings(
            pixel_values_videos,
            (self.config.token_budget,),
            masks,
            self.token_selection if token_selection is None else token_selection,
        )
        layer_features, pooled_features, first, hidden_states = [], [], None, None
        for sequence in sequences:
            if hidden_states is None or sequence.shape != hidden_states.shape:
                hidden_states, features = self._encode(sequence, **kwargs)
            first = hidden_states if first is None else first
            pooler = self.fluxvit.poolers[self.fluxvit.resolve_head(sequence.shape[1] - 1)]
            layer_features.append(features)
            pooled_features.append(self.pooled_decoder(pooler(hidden_states)))
        output = FluxViTForPreTrainingOutput(
            last_hidden_state=first,
            layer_features=tuple(layer_features),
            pooled_features=tuple(pooled_features),
            keep_masks=tuple(masks),
        )
        if target_features is not None:
            output.loss = alignment_loss(alignment_losses(output, target_features, target_pooled))
        return output

    def _encode(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        decoders = dict(zip(self.aligned_layers, self.layer_decoders, strict=True))
        features = []
        for number, layer in enumerate(self.fluxvit.encoder.layers, start=1):
            hidden_states = layer(hidden_states, **kwargs)
            if number in decoders:
                features.append(decoders[number](hidden_states[:, 1:]))
        return hidden_states, tuple(features)


def alignment_losses(
    output: FluxViTForPreTrainingOutput, target_features: list[torch.Tensor], target_pooled: torch.Tensor
) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    """For every set the loss of every aligned layer, and that of the pooled feature: the squared distance of unit
    vectors, 2 - 2 cos, mean over tokens and clips; float32 scalars. Targets need not be unit vectors; for their shapes
    see [`FluxViTForPreTraining.forward`].

    Raises:
        ValueError: targets have other shapes.
    """
    _check_shapes("target_features", target_features, output.layer_features[0])
    _check_shapes("target_pooled", [target_pooled], output.pooled_features[:1])
    losses = []
    targets = [nn.functional.normalize(target.float(), dim=-1) for target in target_features]
    pooled_target = nn.functional.normalize(target_pooled.float(), dim=-1)
    largest, most = output.keep_masks[0], output.layer_features[0][0].shape[1]
    for features, pooled, mask in zip(output.layer_features, output.pooled_features, output.keep_masks, strict=True):
        kept, count = targets, features[0].shape[1]
        if count < most:
            among_largest = mask if largest is None else mask.gather(1, kept_positions(largest, most))
            positions = kept_positions(among_largest, count)[..., None]
            kept = [target.gather(1, positions.expand(-1, -1, target.shape[-1])) for target in targets]
        by_layer = [_distance(mine, target) for mine, target in zip(features, kept, strict=True)]
        losses.append((by_layer, _distance(pooled, pooled_target)))
    return losses


def _check_shapes(name: str, targets: list[torch.Tensor], features: tuple[torch.Tensor, ...]) -> None:
    found, expected = ([tuple(tensor.shape) for tensor in tensors] for tensors in (targets, features))
    if found != expected:
        raise ValueError(f"{name} must have the shapes {expected}, got {found}")


def alignment_loss(losses: list[tuple[list[torch.Tensor], torch.Tensor]]) -> torch.Tensor:
    """Mean over the layers plus that of the pooled feature, mean over the sets."""
    return torch.stack([torch.stack(layers).mean() + pooled for layers, pooled in losses]).mean()


def _distance(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * (features.float() * targets).sum(-1)).mean()


__all__ = ["FluxViTForPreTraining"]
