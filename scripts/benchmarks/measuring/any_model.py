"""Models of Transformers beside themselves with token selection: random weights, one clip of their native grid."""

from collections.abc import Callable
from copy import copy, deepcopy

import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VJEPA2Config, VJEPA2ForVideoClassification
from transformers.modeling_outputs import BaseModelOutput

from flux_hf import enable_flux
from flux_hf.scripts.benchmarks.measuring.memory import added_kilobytes

TINY = {"patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
"""What makes either model small and quick."""

STOCK, SELECTION = "stock", "selection"
"""The model as it comes, and embedding, scoring, choosing and gathering a quarter of the tokens without the encoder."""

BEFORE = """
import sys, torch
from flux_hf.scripts.benchmarks.measuring.any_model import runs_of
name, batch, dtype, tiny, case, shares = sys.argv[1:]
runs, _ = runs_of(name, int(batch), getattr(torch, dtype), "cpu", [int(s) for s in shares.split()], tiny == "True")
torch.set_grad_enabled(False)
run = runs[case]
"""


def videomae(tiny: bool) -> VideoMAEForVideoClassification:
    """VideoMAE-B: 16 frames x 224 pixels."""
    return VideoMAEForVideoClassification(
        VideoMAEConfig(**TINY, image_size=32, num_frames=8, intermediate_size=48) if tiny else VideoMAEConfig()
    )


def vjepa2(tiny: bool) -> VJEPA2ForVideoClassification:
    """V-JEPA 2-L: 64 frames x 256 pixels."""
    sizes = {"crop_size": 32, "frames_per_clip": 8, "num_pooler_layers": 1, "mlp_ratio": 2}
    sizes |= {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    return VJEPA2ForVideoClassification(VJEPA2Config(**TINY, **sizes) if tiny else VJEPA2Config())


MODELS = {"VideoMAE-B": videomae, "V-JEPA 2-L": vjepa2}


def runs_of(
    name: str, batch: int, dtype: torch.dtype, device: str, shares: list[int], tiny: bool = False
) -> tuple[dict[str, Callable[[], object]], dict]:
    """What is timed, by name, and `grid` (frames, height, width), `tokens` (of the run of that name; all of them under
    `STOCK`): `STOCK`, "1/N" for each of `shares`, and `SELECTION`. All runs get the same clips of noise, and share
    their weights.

    Args:
        name: of `MODELS`.
        batch: clips.
        shares: tokens kept are all of them divided by these.
        tiny: take tiny models on a tiny grid.
    """
    torch.manual_seed(0)
    stock = MODELS[name](tiny).eval().to(device, dtype)
    enabled = enable_flux(deepcopy(stock, {id(weights): weights for weights in stock.parameters()}))
    frames, height, width = grid = enabled.native_grid
    total = enabled.token_budgets[0]
    pixels = torch.randn(batch, frames, enabled.num_channels, height, width).to(device, dtype)
    tokens = {STOCK: total} | {f"1/{share}": total // share for share in shares} | {SELECTION: total // 4}
    runs = {STOCK: lambda: stock(pixels)}
    for share in shares:
        runs[f"1/{share}"] = lambda budget=total // share: enabled(pixels, token_budget=budget)
    select = without_encoder(enabled)
    runs[SELECTION] = lambda: select(pixels, token_budget=total // 4)
    return runs, {"grid": list(grid), "tokens": tokens}


def without_encoder(model: nn.Module) -> nn.Module:
    """The encoder of an enabled classifier up to the tokens that its layers are given; shares its weights."""
    chooser = copy(model.flux_encoder)
    chooser.encode_tokens = lambda tokens, positions, grid, **kwargs: BaseModelOutput(last_hidden_state=tokens)
    return chooser


def cpu_kilobytes(name: str, batch: int, dtype: str, case: str, shares: list[int], tiny: bool = False) -> int:
    """How far the run called `case` raises the memory of a fresh process over that of models and clips."""
    return added_kilobytes(BEFORE, "run()", name, str(batch), dtype, str(tiny), case, " ".join(map(str, shares)))
