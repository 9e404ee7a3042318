"""FluxViT configuration."""

from pathlib import Path

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class FluxViTConfig(PreTrainedConfig):
    r"""
    Configuration of a FluxViT. The defaults are FluxViT-S/14 with the position table of the released checkpoint
    (sizes: paper Table 6 and `models/fluxvit.py` of the official repository).

    Args:
        hidden_size (`int`, defaults to 384): Width of the tokens.
        num_hidden_layers (`int`, defaults to 12): Number of encoder layers.
        num_attention_heads (`int`, defaults to 6): Attention heads of a layer; divides `hidden_size`.
        mlp_ratio (`float`, defaults to 4.0): Width of the MLP over `hidden_size`.
        hidden_act (`str`, defaults to `"gelu"`): MLP activation. Released official checkpoints need
            `"gelu_pytorch_tanh"`, which their fused MLP used in training.
        patch_size (`int`, defaults to 14): Side of a patch in pixels. A token covers one frame in time.
        num_channels (`int`, defaults to 3): Colour channels.
        position_frames (`int`, defaults to 24): Frames of the stored position table.
        position_size (`int`, defaults to 252): Image side of the stored position table in pixels. Other grids, square
            or not, interpolate the table.
        layer_norm_eps (`float`, defaults to 1e-6): Epsilon of the RMS norms.
        layer_scale_init (`float`, defaults to 1e-5): Initial value of LayerScale.
        initializer_range (`float`, defaults to 0.02): Standard deviation of the linear layers' initial weights.
        drop_path_rate (`float`, defaults to 0.0): Stochastic depth of the last layer; grows linearly from 0.
        projection_dim (`int`, defaults to 768): Width of the pooled feature.
        pooler_num_attention_heads (`int`, defaults to 16): Heads of the pooling attention; divides `hidden_size`.
        head_token_budgets (`list[int]`, defaults to `[3072, 2048, 1024]`): Token budget each pooling head and
            classifier was trained at, descending.
        token_budget (`int`, *optional*): Tokens the selector keeps when the forward is given no budget.
            `None` keeps all.
        aligned_layers (`list[int]`, *optional*): Pre-training only: encoder layers, counted from 1, whose outputs are
            aligned with a teacher. `None`: the last half of them, rounded up, at most 6.
        teacher_hidden_size (`int`, *optional*): Pre-training only: width of the teacher's tokens. `None`:
            `hidden_size`.
        teacher_projection_dim (`int`, *optional*): Pre-training only: width of the teacher's pooled feature. `None`:
            `projection_dim`.
        num_frames (`int`, *optional*): Read by the stock video-classification pipeline, which hands it to the
            processor. `None` lets the processor choose the grid.
    """

    model_type = "fluxvit"
    # The Trainer's predictions are the logits.
    keys_to_ignore_at_inference = ["pooler_output", "keep_mask"]

    hidden_size: int = 384
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    patch_size: int = 14
    num_channels: int = 3
    position_frames: int = 24
    position_size: int = 252
    layer_norm_eps: float = 1e-6
    layer_scale_init: float = 1e-5
    initializer_range: float = 0.02
    drop_path_rate: float | int = 0.0
    projection_dim: int = 768
    pooler_num_attention_heads: int = 16
    head_token_budgets: list[int] | tuple[int, ...] = (3072, 2048, 1024)
    token_budget: int | None = None
    aligned_layers: list[int] | tuple[int, ...] | None = None
    teacher_hidden_size: int | None = None
    teacher_projection_dim: int | None = None
    num_frames: int | None = None

    def __post_init__(self, **kwargs):
        self.head_token_budgets = list(self.head_token_budgets)
        if self.aligned_layers is not None:
            self.aligned_layers = list(self.aligned_layers)
        super().__post_init__(**kwargs)
        if self.label2id is None and self.id2label is not None:
            self.label2id = {name: index for index, name in self.id2label.items()}

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; a saved classifier also tells `AutoModel` where its base model is. `custom_pipelines` and
        models for pre-training whose file is not in the folder are left out."""
        shipped = {path.stem for path in Path(save_directory).glob("*.py")}
        if self._auto_class is not None:
            self.auto_map = {"AutoModel": "modeling_fluxvit.FluxViTModel", **(getattr(self, "auto_map", None) or {})}
            if self.auto_map.get("AutoModelForPreTraining", "").partition(".")[0] not in shipped:
                self.auto_map.pop("AutoModelForPreTraining", None)
        if pipelines := getattr(self, "custom_pipelines", None):
            self.custom_pipelines = {k: v for k, v in pipelines.items() if v["impl"].partition(".")[0] in shipped}
        super().save_pretrained(save_directory, *args, **kwargs)

    def validate_architecture(self):
        """Part of `@strict`: checks that the sizes fit each other."""
        for name in (
            "hidden_size",
            "num_attention_heads",
            "pooler_num_attention_heads",
            "patch_size",
            "num_channels",
            "position_frames",
            "position_size",
            "projection_dim",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for heads in ("num_attention_heads", "pooler_num_attention_heads"):
            if self.hidden_size % getattr(self, heads):
                raise ValueError(
                    f"hidden_size ({self.hidden_size}) is not a multiple of {heads} ({getattr(self, heads)})"
                )
        if self.position_size % self.patch_size:
            raise ValueError(
                f"position_size ({self.position_size}) is not a multiple of patch_size ({self.patch_size})"
            )
        budgets = self.head_token_budgets
        if not budgets or any(b < 1 for b in budgets) or sorted(set(budgets), reverse=True) != list(budgets):
            raise ValueError(f"head_token_budgets must be positive, different and descending, got {budgets}")
        if self.token_budget is not None and self.token_budget < 1:
            raise ValueError(f"token_budget must be None or at least 1, got {self.token_budget}")
        layers = self.aligned_layers
        if layers is not None and (
            not layers or layers != sorted(set(layers)) or layers[0] < 1 or layers[-1] > self.num_hidden_layers
        ):
            raise ValueError(
                f"aligned_layers must be different, ascending and in 1..{self.num_hidden_layers}, got {layers}"
            )
        if not 0.0 <= self.drop_path_rate < 1.0:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {self.drop_path_rate}")


__all__ = ["FluxViTConfig"]
