"""Sizes of models that compute in milliseconds, for FluxViTConfig; what a model asks of its device."""

from contextlib import contextmanager

from torch.utils._python_dispatch import TorchDispatchMode

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


@contextmanager
def values_read():
    """A list that gets the name of every operation in the context that reads a tensor's value, or makes a tensor of
    Python numbers."""
    found = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            name = operation.overloadpacket.__name__
            if name in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal"):
                found.append(name)
            return operation(*args, **kwargs or {})

    with Watch():
        yield found
