"""Float32 or bfloat16: what one layer of the model at hand says about this processor."""

import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from transformers.utils import logging

from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.options import DTYPES

logger = logging.get_logger(__name__)

MARGIN = 1.2
"""How many times faster than float32 bfloat16, which answers a little differently, has to be."""
PROBE_SECONDS = 0.3
PROBE_ROUNDS = 5
PROBE_TOKENS = 4096
"""Of a batch; what a processor makes of more is what it makes of these."""


def choose_dtype(
    model: FluxModel, dtype: str = "auto", *, token_budget: int | None = None, batch_size: int = 1
) -> tuple[torch.dtype, str]:
    """The type of numbers that a model is to compute in on its device, and why, in a few words. The model stays as it
    is.

    "auto" times one layer of its encoder in both types, on tokens of a random clip, for at most about 0.3 s: which is
    faster depends on the processor's instructions, but on the sizes of the model, too. bfloat16 has to be 1.2 times
    faster.

    Args:
        model: in evaluation mode.
        dtype: "auto", "float32" or "bfloat16".
        token_budget: tokens that it will keep. Default: its largest budget.
        batch_size: clips that it will take at once.

    Raises:
        ValueError: `dtype` is something else.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype!r}")
    if dtype != "auto":
        return getattr(torch, dtype), "asked for"
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []), torch.inference_mode():
        call = _first_layer_call(model, model.token_budgets[0] if token_budget is None else token_budget, batch_size)
        if call is None:
            return torch.float32, "its encoder has no list of layers to time"
        float32, bfloat16 = _seconds(*(_in_type(call, each) for each in (torch.float32, torch.bfloat16)))
    dtype = torch.bfloat16 if bfloat16 * MARGIN < float32 else torch.float32
    # Two digits, and 120 rather than 1.2e+02.
    times = [f"{float(f'{1000 * seconds:.2g}'):g} ms" for seconds in (float32, bfloat16)]
    return dtype, f"a layer takes {times[0]} in float32 and {times[1]} in bfloat16 here"


def set_dtype(
    model: FluxModel, dtype: str | None, *, token_budget: int | None = None, batch_size: int = 1
) -> torch.dtype:
    """Give a model, in place, the type that [`choose_dtype`] finds; the log says which one "auto" is. None leaves the
    weights as they are. Where several processes of torch.distributed work together all of them have to call it, and
    the first one's "auto" is that of all. Returns the type.

    Raises:
        ValueError: `dtype` is none of `DTYPES`.
    """
    if dtype is None:
        return model.dtype
    tower = model.vision_model if isinstance(model, FluxViTClipModel) else model
    found = [choose_dtype(tower, dtype, token_budget=token_budget, batch_size=batch_size)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(found)
    [(chosen, reason)] = found
    if dtype == "auto":
        logger.warning(f"dtype auto: {str(chosen).removeprefix('torch.')}; {reason}")
    model.to(chosen)
    return chosen


class _Reached(Exception):
    """The forward came to the first layer of the encoder; the rest of it is not needed."""


def _encoder_layers(model: nn.Module) -> nn.Module | None:
    """Of all lists of modules of one class that with the most weights."""
    lists = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1 and len(set(map(type, module))) == 1
    ]
    return max(lists, key=lambda each: sum(weight.numel() for weight in each.parameters()), default=None)


def _first_layer_call(model: FluxModel, token_budget: int, batch_size: int) -> tuple | None:
    """(the first layer of the encoder, its arguments, its named ones) in a forward of random clips."""
    layers = _encoder_layers(model)
    if layers is None:
        return None
    found = []

    def stop(layer, args, kwargs):
        found.extend((layer, args, kwargs))
        raise _Reached

    frames, height, width = model.native_grid
    clips = max(1, min(batch_size, PROBE_TOKENS // token_budget))
    pixels = torch.randn(clips, frames, model.num_channels, height, width, dtype=model.dtype, device=model.device)
    hook = layers[0].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(pixels, token_budget=token_budget)
    except _Reached:
        pass
    finally:
        hook.remove()
    return tuple(found) or None


def _in_type(call: tuple, dtype: torch.dtype) -> Callable[[], object]:
    layer, args, kwargs = call
    layer = deepcopy(layer).to(dtype)
    args = [_converted(value, dtype) for value in args]
    kwargs = {name: _converted(value, dtype) for name, value in kwargs.items()}

    def run() -> None:
        output = layer(*args, **kwargs)
        (output[0] if isinstance(output, tuple) else output).sum().item()  # waits for a device that works by itself

    return run


def _converted(value, dtype: torch.dtype):
    if isinstance(value, tuple):
        return tuple(_converted(each, dtype) for each in value)
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _seconds(*runs: Callable[[], object]) -> list[float]:
    """The fastest time of each, which take turns until the probe has lasted long enough; the first turn warms up."""
    times, started = [[] for _ in runs], time.perf_counter()
    for turn in range(PROBE_ROUNDS + 1):
        for run, measured in zip(runs, times, strict=True):
            before = time.perf_counter()
            run()
            if turn:
                measured.append(time.perf_counter() - before)
        if turn and time.perf_counter() - started > PROBE_SECONDS:
            break
    return [min(measured) for measured in times]
