"""What the benchmarks of fine-tuning and pre-training share, and the memory of a training step."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens
from flux_hf.scripts.benchmarks.measuring.memory import added_kilobytes

CONFIGS = "scripts/configs/models"

BEFORE = """
import json, sys, torch
from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.training.objective import flux_loss_parts
config_file, rest = sys.argv[1:]
batch, frames, side, budgets, bf16 = json.loads(rest)
model = FluxViTForVideoClassification(FluxViTConfig.from_json_file(config_file)).train()
pixels = torch.randn(batch, frames, model.config.num_channels, side, side)
labels = torch.zeros(batch, dtype=torch.long)
"""
STEP = """
with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
    output = model(pixels, token_budgets=budgets)
sum(flux_loss_parts(output, labels, budgets).values()).backward()
"""


@dataclass
class StepOptions:
    """Which model, and which step of its training."""

    model_config: str = field(default=f"{CONFIGS}/fluxvit_nano.json", metadata={"help": "JSON config of the model."})
    batch_size: int = field(default=8, metadata={"help": "Clips in a batch."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the grid."})
    size: int = field(default=96, metadata={"help": "Side of the grid in pixels."})
    steps: int = field(default=20, metadata={"help": "Steps that are timed; some before them are not."})
    bf16: bool = field(default=False, metadata={"help": "Train in bf16, and measure matrix products in it."})


def step_tokens(options: StepOptions, config: FluxViTConfig) -> int:
    """Tokens of a clip on the grid of `options`."""
    return grid_tokens(Grid(options.num_frames, options.size), config.patch_size, config.tubelet_size)


def step_arguments(options: StepOptions, folder: Path, config: FluxViTConfig) -> dict:
    """Training arguments for `steps` steps, after two that are not timed, on the one grid of `options`; every step is
    logged, nothing saved."""
    tokens = step_tokens(options, config)
    return {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": options.batch_size,
        "max_steps": 2 + options.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "min_frames": options.num_frames,
        "max_frames": options.num_frames,
        "min_size": options.size,
        "max_size": options.size,
        "min_pool_tokens": tokens,
        "max_pool_tokens": tokens,
        "bf16": options.bf16,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }


def logged_seconds(trainer, *names: str) -> dict[str, float]:
    """Means of `names` in the log of a training, without its first two steps."""
    logged = [entry for entry in trainer.state.log_history if "step_seconds" in entry][2:]
    return {name: sum(entry[name] for entry in logged) / len(logged) for name in names}


def step_kilobytes(options: StepOptions, token_budgets: list[int]) -> int:
    """How far forward and backward at `token_budgets` raise the memory of a fresh process over that of model and
    clips: activations and gradients, no optimizer."""
    rest = [options.batch_size, options.num_frames, options.size, token_budgets, options.bf16]
    return added_kilobytes(BEFORE, STEP, options.model_config, json.dumps(rest))
