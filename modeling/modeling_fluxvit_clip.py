"""FluxViT beside a text encoder: videos and sentences as unit vectors of one space, at any token budget."""

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, cached_file
from transformers.utils.generic import can_return_tuple

from .configuration_fluxvit_clip import FluxViTClipConfig
from .contrastive_loss_fluxvit import ClampWithReturn, alignment_loss_of, contrastive_losses, similarity
from .flux_model_fluxvit import FluxModel, check_token_budgets
from .layers_fluxvit import FeatureDecoder
from .modeling_fluxvit import FluxViTModel, FluxViTModelOutput, with_idle_heads_copied
from .token_selection_fluxvit import SelectionRule

_POOLINGS_OF_SENTENCE_TRANSFORMERS = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean"}


@dataclass
class FluxViTClipOutput(ModelOutput):
    """What is per video is, with `token_budgets`, a tuple with one entry per budget.

    Args:
        loss: scalar, when asked for.
        logits_per_video: raw logits (videos, texts), scale and bias included; None unless there are both.
        logits_per_text: (texts, videos), the same numbers.
        video_embeds: unit vectors (videos, projection_dim).
        text_embeds: unit vectors (texts, projection_dim).
        pooler_output: the video tower's pooled feature (videos, vision_config.projection_dim).
        aligned: with `token_budgets`, for every budget but the largest unit vectors (videos,
            vision_config.projection_dim): its pooled feature, which the decoder of its head maps onto that of the
            largest. A feature of the largest one's head stays as it is.
        keep_mask: bool (videos, frames * rows * columns), True = kept; None when every token was kept.
        logit_scale, logit_bias: (1,), what similarities are multiplied by and what is added (sigmoid loss only).
    """

    loss: torch.FloatTensor | None = None
    logits_per_video: torch.FloatTensor | tuple[torch.FloatTensor, ...] | None = None
    logits_per_text: torch.FloatTensor | tuple[torch.FloatTensor, ...] | None = None
    video_embeds: torch.FloatTensor | tuple[torch.FloatTensor, ...] | None = None
    text_embeds: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | tuple[torch.FloatTensor, ...] | None = None
    aligned: tuple[torch.FloatTensor, ...] | None = None
    keep_mask: torch.BoolTensor | tuple[torch.BoolTensor | None, ...] | None = None
    logit_scale: torch.FloatTensor | None = None
    logit_bias: torch.FloatTensor | None = None


def _named_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class of transformers that a configuration names; some encoders have one that `AutoModel` does not give."""
    named = getattr(transformers, (config.architectures or [""])[0], None)
    return named if isinstance(named, type) and issubclass(named, PreTrainedModel) else None


def _text_tower(config: PreTrainedConfig) -> PreTrainedModel:
    """With random weights."""
    named = _named_class(config)
    return AutoModel.from_config(config) if named is None else named._from_config(config).base_model


def pretrained_text_encoder(name_or_path: str | PathLike) -> PreTrainedModel:
    """The text encoder of a checkpoint, or the dual encoder that it is part of; of an encoder with a decoder, as T5,
    the encoder alone.

    Raises:
        ValueError: transformers has no class for it.
        OSError: there is no such checkpoint.
    """
    config = AutoConfig.from_pretrained(name_or_path)
    for auto in (AutoModelForTextEncoding, AutoModel):
        if type(config) in auto._model_mapping:
            return auto.from_pretrained(name_or_path)
    named = _named_class(config)
    if named is None:
        raise ValueError(f"transformers has no model for a {config.model_type}")
    return named.from_pretrained(name_or_path)


def sentence_transformers_pooling(name_or_path: str | PathLike) -> str | None:
    """How a checkpoint of sentence-transformers pools, as `FluxViTClipConfig.text_pooling` says it; None for others.

    Raises:
        ValueError: in a way that `text_pooling` has no name for.
    """
    try:
        file = cached_file(
            name_or_path,
            "1_Pooling/config.json",
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # a model that was made here, or whose folder is gone
        return None
    if file is None:
        return None
    settings = json.loads(Path(file).read_text(encoding="utf-8"))
    chosen = [name for name in settings if name.startswith("pooling_mode_") and settings[name]]
    mode = settings.get("pooling_mode") or "+".join(name.removeprefix("pooling_mode_") for name in chosen)
    if mode not in _POOLINGS_OF_SENTENCE_TRANSFORMERS:
        raise ValueError(
            f"{file}: pooling {mode!r} is not supported, give text_pooling to take another; known are "
            f"{', '.join(_POOLINGS_OF_SENTENCE_TRANSFORMERS)}"
        )
    return _POOLINGS_OF_SENTENCE_TRANSFORMERS[mode]


class FluxViTClipModel(FluxModel, PreTrainedModel):
    """Compares videos with sentences: a FluxViT (`vision_model`), whose pooled feature of the budget in use goes
    through LayerNorm and Linear, and a text encoder (`text_model`), whose pooled output goes through a Linear.

    Make one of two trained towers with `from_towers`.
    """

    config: FluxViTClipConfig
    config_class = FluxViTClipConfig
    base_model_prefix = "fluxvit_clip"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["FluxViTEmbeddings", "FluxViTLayer", "FluxViTPooler"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The losses are means over the batch, whatever the Trainer accumulates.
    accepts_loss_kwargs = False

    def __init__(self, config: FluxViTClipConfig):
        super().__init__(config)
        vision = config.vision_config
        self.vision_model = FluxViTModel(vision)
        self.text_model = _text_tower(config.text_config)
        if config.text_pooling != "pooler" and getattr(self.text_model, "pooler", None) is not None:
            self.text_model.pooler = None  # weights that nothing would train
        self.video_norm = nn.LayerNorm(vision.projection_dim)
        self.video_projection = nn.Linear(vision.projection_dim, config.projection_dim)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.alignment_decoders = nn.ModuleList(
            FeatureDecoder(vision.projection_dim, vision.projection_dim) for _ in vision.head_token_budgets[1:]
        )
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1)) if config.loss == "sigmoid" else None
        self.post_init()
        self.train()

    @classmethod
    def from_towers(
        cls, video: PreTrainedModel | str | PathLike, text: PreTrainedModel | str | PathLike, **config_options
    ) -> "FluxViTClipModel":
        """A dual encoder with the weights of two trained towers; what lies behind them starts at random. The towers
        are copied and stay as they are.

        Args:
            video: a FluxViT of any kind, or its checkpoint. Of a classifier the decoders that align smaller budgets
                come along.
            text: a text encoder of transformers, or its checkpoint. Of a dual encoder, as `CLIPModel` and
                `SiglipModel`, the text tower is taken. One that has a `text_projection`, as
                `CLIPTextModelWithProjection`, brings it and its width along; one of sentence-transformers is pooled as
                its checkpoint says.
            **config_options: see [`FluxViTClipConfig`]; they win.

        Raises:
            ValueError: the video tower is no FluxViT, or the text tower no encoder.
        """
        video = video if isinstance(video, nn.Module) else FluxViTModel.from_pretrained(video)
        text = text if isinstance(text, nn.Module) else pretrained_text_encoder(text)
        inner, projection = getattr(text, "text_model", None), getattr(text, "text_projection", None)
        tower = inner if isinstance(inner, PreTrainedModel) else text.base_model
        if tower.main_input_name != "input_ids":
            raise ValueError(f"{type(text).__name__} is no text encoder: it is given {tower.main_input_name}")
        if isinstance(projection, nn.Linear):
            config_options = {"projection_dim": projection.out_features} | config_options
        if "text_pooling" not in config_options:
            config_options["text_pooling"] = sentence_transformers_pooling(text.name_or_path)
        text_config = tower.config.to_dict() | {"architectures": [type(tower).__name__]}
        model = cls(cls.config_class(vision_config=video.config.to_dict(), text_config=text_config, **config_options))
        model.vision_model.load_state_dict(video.base_model.state_dict())
        found = model.text_model.load_state_dict(tower.state_dict(), strict=False)
        left = [name for name in found.unexpected_keys if not name.startswith("pooler.")]
        if found.missing_keys or left:
            raise ValueError(
                f"{type(text).__name__} is no text tower for {type(model.text_model).__name__}: it lacks "
                f"{found.missing_keys[:3]} and has {left[:3]}"
            )
        if isinstance(projection, nn.Linear) and projection.weight.shape == model.text_projection.weight.shape:
            model.text_projection.load_state_dict({"weight": projection.weight})
        if hasattr(video, "alignment_decoders"):
            model.alignment_decoders.load_state_dict(video.alignment_decoders.state_dict())
        return model.eval()

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, *args, **kwargs):
        """As in transformers. A pooling head that was never trained, though another one was, is saved as a copy of the
        trained one with the nearest budget (ties: the larger), and the log says so."""
        state_dict = with_idle_heads_copied(
            self.state_dict() if state_dict is None else state_dict,
            self.token_budgets,
            "vision_model.poolers.{}.output.bias",
            ("vision_model.poolers.{}.",),
        )
        super().save_pretrained(save_directory, is_main_process, state_dict, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_text:  # here, because loading weights forgets what needs no gradient
            self.text_model.requires_grad_(False).eval()
        return self

    def get_scale(self) -> torch.Tensor:
        """What similarities are multiplied by, (1,); at most `config.logit_scale_max`."""
        return ClampWithReturn.apply(self.logit_scale.float(), math.log(self.config.logit_scale_max)).exp()

    def compare(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """Raw logits (videos, texts) of unit vectors, scale and bias included; float32."""
        return similarity(video_embeds, text_embeds, self.get_scale(), self.logit_bias)

    def embed_pooled_video(self, pooled: torch.Tensor) -> torch.Tensor:
        """Unit vectors (videos, projection_dim) of the video tower's pooled features."""
        return nn.functional.normalize(self.video_projection(self.video_norm(pooled)).float(), dim=-1)

    def embed_pooled_text(self, text_features: torch.Tensor) -> torch.Tensor:
        """Unit vectors (texts, projection_dim) of `text_features`."""
        return nn.functional.normalize(
            self.text_projection(text_features.to(self.text_projection.weight.dtype)).float(), dim=-1
        )

    def text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """What the text tower says of every sentence, before the projection, (texts, text_config.hidden_size): the same
        at every step of training while the tower is frozen, so that it can be kept."""
        return self._pooled_text(input_ids, attention_mask, token_type_ids, **kwargs)[1]

    def _pooled_text(self, input_ids, attention_mask=None, token_type_ids=None, **kwargs):
        self.config.check_text_length(input_ids.shape[1])
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **types, **kwargs)
        if self.config.text_pooling == "pooler":
            return outputs, outputs.pooler_output
        hidden = outputs.last_hidden_state
        if self.config.text_pooling == "cls":
            return outputs, hidden[:, 0]
        if attention_mask is None:
            return outputs, hidden.mean(1)
        kept = attention_mask[..., None].to(torch.float32)
        return outputs, ((hidden * kept).sum(1) / kept.sum(1).clamp(min=1)).to(hidden.dtype)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """The text tower's output; its `pooler_output` are unit vectors (texts, projection_dim).

        Args:
            input_ids, attention_mask, token_type_ids: (texts, length), as the tokenizer gives them.
        """
        outputs, pooled = self._pooled_text(input_ids, attention_mask, token_type_ids, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=self.embed_pooled_text(pooled),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.FloatTensor,
        token_budget: int | torch.Tensor | None = None,
        keep_mask: torch.BoolTensor | None = None,
        head_index: int | None = None,
        token_selection: str | SelectionRule | Callable | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTModelOutput:
        """The video tower's output; its `pooler_output` are unit vectors (videos, projection_dim). For several budgets
        at once call the model with `token_budgets`.

        Args:
            pixel_values_videos, token_budget, keep_mask, head_index, token_selection: see [`FluxViTModel.forward`].
        """
        outputs = self.vision_model(pixel_values_videos, token_budget, keep_mask, head_index, token_selection, **kwargs)
        outputs.pooler_output = self.embed_pooled_video(outputs.pooler_output)
        return outputs

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        token_budget: int | torch.Tensor | None = None,
        keep_mask: torch.BoolTensor | None = None,
        head_index: int | None = None,
        token_budgets: list[int] | None = None,
        token_selection: str | SelectionRule | Callable | None = None,
        text_features: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTClipOutput:
        """
        Videos, texts, or both; any number of each, without a loss.

        Args:
            pixel_values_videos, token_budget, keep_mask, head_index, token_selection: see [`FluxViTModel.forward`].
            input_ids, attention_mask, token_type_ids: (texts, length), as the tokenizer gives them.
            token_budgets: descending budgets to answer at in one call; patches are embedded and scored once. Excludes
                `token_budget`, `keep_mask` and `head_index`.
            text_features: what the method `text_features` gave, instead of `input_ids`.
            labels: integers (pairs,), which pairs show the same thing, see [`contrastive_losses`]; gives a loss.
            return_loss: give a loss, row i of the videos belonging to row i of the texts. With `token_budgets` it is
                the sum over the budgets and, for all but the largest, of the distance to the largest
                ([`alignment_loss_of`]). In training mode the rows of all processes are compared with each other.

        Raises:
            ValueError: on inputs that exclude each other, are missing, or do not fit.
        """
        if pixel_values_videos is None and input_ids is None and text_features is None:
            raise ValueError("give pixel_values_videos, input_ids (or text_features), or both")
        if input_ids is not None and text_features is not None:
            raise ValueError("input_ids and text_features exclude each other")
        output = FluxViTClipOutput(logit_scale=self.get_scale())
        if self.logit_bias is not None:
            output.logit_bias = self.logit_bias.float()
        kwargs.pop("return_dict", None)
        if pixel_values_videos is not None:
            vision = (pixel_values_videos, token_budget, keep_mask, head_index, token_selection)
            self._add_videos(output, vision, token_budgets, **kwargs)
        if input_ids is not None:
            text_features = self.text_features(input_ids, attention_mask, token_type_ids, **kwargs)
        if text_features is not None:
            output.text_embeds = self.embed_pooled_text(text_features)
        if output.video_embeds is not None and output.text_embeds is not None:
            self._add_logits(output)
        if return_loss or labels is not None:
            output.loss = sum(self.loss_parts(output, labels).values())
        return output

    def _add_videos(self, output: FluxViTClipOutput, vision: tuple, token_budgets: list[int] | None, **kwargs) -> None:
        if token_budgets is None:
            tower = self.vision_model(*vision, **kwargs)
            output.pooler_output, output.keep_mask = tower.pooler_output, tower.keep_mask
            output.video_embeds = self.embed_pooled_video(tower.pooler_output)
            return
        pixels, *of_one_budget, token_selection = vision
        if any(each is not None for each in of_one_budget):
            raise ValueError("token_budgets excludes token_budget, keep_mask and head_index")
        towers = self.vision_model.encode_budgets(pixels, token_budgets, token_selection, **kwargs)
        heads = [self.vision_model.resolve_head(tower.last_hidden_state.shape[1] - 1) for tower in towers]
        output.pooler_output = tuple(tower.pooler_output for tower in towers)
        output.keep_mask = tuple(tower.keep_mask for tower in towers)
        output.video_embeds = tuple(self.embed_pooled_video(pooled) for pooled in output.pooler_output)
        output.aligned = tuple(
            nn.functional.normalize(pooled.float(), dim=-1)
            if head == heads[0]
            else self.alignment_decoders[head - 1](pooled)
            for head, pooled in zip(heads[1:], output.pooler_output[1:], strict=True)
        )

    def _add_logits(self, output: FluxViTClipOutput) -> None:
        several = isinstance(output.video_embeds, tuple)
        logits = tuple(
            similarity(videos, output.text_embeds, output.logit_scale, output.logit_bias)
            for videos in (output.video_embeds if several else (output.video_embeds,))
        )
        transposed = tuple(each.T for each in logits)
        output.logits_per_video = logits if several else logits[0]
        output.logits_per_text = transposed if several else transposed[0]

    def loss_parts(
        self,
        output: FluxViTClipOutput,
        labels: torch.LongTensor | None = None,
        token_budgets: list[int] | None = None,
        *,
        alignment_weight: float = 1.0,
    ) -> dict[str, torch.Tensor]:
        """Terms whose sum is the loss: the contrastive one of every budget, `loss_{budget}`, and for every budget but
        the largest `alignment_{budget}`, see [`alignment_loss_of`]; float32 scalars. Without `token_budgets` their
        numbers take the budgets' places in the names.

        Args:
            output: of `forward`, of this batch or put together from several.
            labels: see `forward`.
            token_budgets: those of the output.
            alignment_weight: factor of the alignment terms.

        Raises:
            ValueError: there are no videos or no texts, or not as many of the ones as of the others.
        """
        if output.video_embeds is None or output.text_embeds is None:
            raise ValueError("a loss needs videos and texts: give pixel_values_videos and input_ids or text_features")
        several = isinstance(output.video_embeds, tuple)
        embeds = output.video_embeds if several else (output.video_embeds,)
        names = token_budgets or range(len(embeds))
        gather = self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        losses = contrastive_losses(
            embeds, output.text_embeds, output.logit_scale, output.logit_bias, labels, gather=gather
        )
        parts = {f"loss_{name}": loss for name, loss in zip(names, losses, strict=True)}
        if output.aligned and alignment_weight:
            for name, aligned in zip(names[1:], output.aligned, strict=True):
                parts[f"alignment_{name}"] = alignment_weight * alignment_loss_of(aligned, output.pooler_output[0])
        return parts

    # What a FluxModel is asked is the video tower's to answer.

    @property
    def token_selection(self):
        """The video tower's, see [`SelectsTokens`]."""
        return self.vision_model.token_selection

    @token_selection.setter
    def token_selection(self, rule) -> None:
        self.vision_model.token_selection = rule

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.vision_model.patch_shape

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.vision_model.native_grid

    @property
    def num_channels(self) -> int:
        return self.vision_model.num_channels

    @property
    def token_budgets(self) -> list[int]:
        return self.vision_model.token_budgets

    def set_token_budgets(self, token_budgets: list[int]) -> None:
        before, after = self.token_budgets, check_token_budgets(token_budgets)
        if after == before:
            return
        sources = [self.vision_model.resolve_head(budget) for budget in after]
        self.vision_model.set_token_budgets(after)
        # Decoders map features to that of the first head, which has none.
        decoders = [None, *self.alignment_decoders]
        self.alignment_decoders = nn.ModuleList(
            deepcopy(decoders[source]) if source else self._new_decoder() for source in sources[1:]
        )

    def _new_decoder(self) -> FeatureDecoder:
        width, like = self.config.vision_config.projection_dim, self.video_norm.weight
        return FeatureDecoder(width, width).apply(self._init_weights).to(like.device, like.dtype)

    def head_budget(self, num_tokens: int) -> int:
        return self.vision_model.head_budget(num_tokens)

    @property
    def num_layers(self) -> int:
        return self.vision_model.num_layers

    def parameter_layer(self, name: str) -> int:
        """As in every [`FluxModel`]; the text tower lies behind the video tower's encoder."""
        if name.startswith("vision_model."):
            return self.vision_model.parameter_layer(name)
        return self.num_layers + 1

    def freeze_encoder(self) -> None:
        self.vision_model.freeze_encoder()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=self.config.vision_config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif module is self:
            init.constant_(self.logit_scale, math.log(self.config.logit_scale_init))
            if self.logit_bias is not None:
                init.constant_(self.logit_bias, self.config.logit_bias_init)


__all__ = ["FluxViTClipModel"]
