"""Sizes of models that compute in milliseconds, for FluxViTConfig."""

PATCHES_OF_14 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2.0,
    "patch_size": 14,
    "position_frames": 4,
    "position_size": 56,
    "layer_scale_init": 1.0,
    "projection_dim": 16,
    "pooler_num_attention_heads": 2,
}
PATCHES_OF_8 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
    "position_frames": 4,
    "position_size": 48,
    "projection_dim": 24,
    "pooler_num_attention_heads": 2,
}
