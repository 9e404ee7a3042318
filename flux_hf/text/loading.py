"""Loading a FluxViT with a text tower, whole or the text tower alone."""

from pathlib import Path

from transformers import AutoConfig, AutoProcessor

from flux_hf.checkpoints import check_weights, checkpoint_path
from flux_hf.modeling.configuration_fluxvit_clip import FluxViTClipConfig
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel


def load_clip(checkpoint: str | Path, **video_settings) -> tuple:
    """(model in evaluation mode, its processor) of a checkpoint.

    Args:
        checkpoint: folder or Hub id.
        video_settings: options of the video processor, which win over saved ones.

    Raises:
        ValueError: it is another kind of model, or its weights are not finite.
    """
    check_is_clip(checkpoint)
    model = FluxViTClipModel.from_pretrained(checkpoint).eval()
    check_weights(model, checkpoint)
    return model, load_clip_processor(checkpoint, **video_settings)


def load_clip_processor(checkpoint: str | Path, **video_settings):
    """The processor of a checkpoint; `video_settings` are options of its video processor, which win over saved ones."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    for name, value in video_settings.items():
        setattr(processor.video_processor, name, value)
    return processor


class TextTower(FluxViTClipModel):
    """A `FluxViTClipModel` without its video tower: it has `get_text_features` alone."""

    _keys_to_ignore_on_load_unexpected = [r"^(vision_model|video_norm|video_projection|alignment_decoders)\."]

    def __init__(self, config: FluxViTClipConfig):
        super().__init__(config)  # on the meta device while weights are loaded: nothing is taken for what goes
        del self.vision_model, self.video_norm, self.video_projection, self.alignment_decoders


def load_text_tower(checkpoint: str | Path) -> TextTower:
    """The text tower of a checkpoint with its projection, in evaluation mode; the other weights are not read."""
    return TextTower.from_pretrained(checkpoint).eval()


def check_is_clip(checkpoint: str | Path) -> None:
    """Raises ValueError for a checkpoint of another kind of model."""
    config = AutoConfig.from_pretrained(checkpoint_path(str(checkpoint)))
    if not isinstance(config, FluxViTClipConfig):
        raise ValueError(
            f"{checkpoint}: it is a {config.model_type}, which knows no words; flux-hf align makes a model that does"
        )
