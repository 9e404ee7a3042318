"""Train one model from random weights, stock or Flux, and test it at several budgets; writes JSON.

Stock training is one grid with all tokens kept, which is the stock model bit for bit. Flux training draws a grid for
every step and trains it at several budgets, aligned. Steps, clips, augmentation and optimiser are the same.

python scripts/experiments/any_model/run.py --data DIR --model videomae --regime flux --seed 0
"""

import json
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from flux_hf import FluxVideoProcessor
from flux_hf.cli import run_command
from flux_hf.data import CachedClips, cache_clips, load_video_dataset
from flux_hf.evaluation.figures import wilson_interval
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.any_model.models import PATCH, SETTINGS, SHARES, TUBELET, Setting, enabled_model
from flux_hf.scripts.experiments.own_clips.compare import split
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from flux_hf.training.arguments import recipe_of

COMMAND = "scripts/experiments/any_model/run.py"
REGIMES = ("stock", "flux")
ALIKE = {
    "frames_step": 4,
    "size_step": PATCH,
    "min_crop_area": 0.5,
    "flip": False,
    "rand_augment_ops": 0,
    "weight_decay": 0.05,
    "max_grad_norm": 1.0,
    "warmup_steps": 0.1,
    "per_device_train_batch_size": 16,
}
OTHER_RULES = ("random", "uniform")
"""Tested beside the paper's rule, at a quarter of the tokens."""


@dataclass
class RunOptions:
    data: str = field(metadata={"help": "Folder of a video data set in videofolder layout."})
    model: str = field(default="videomae", metadata={"help": "What to train.", "choices": list(SETTINGS)})
    regime: str = field(default="flux", metadata={"help": "How.", "choices": list(REGIMES)})
    seed: int = field(default=0, metadata={"help": "Draws the clips of training and test, and the weights."})
    steps: int | None = field(default=None, metadata={"help": "Steps of 16 clips. Default: that of the model."})
    learning_rate: float | None = field(default=None, metadata={"help": "The peak. Default: that of the model."})
    splits: list[str] = field(
        default_factory=lambda: ["train", "validation"], metadata={"help": "Splits that all clips are drawn from."}
    )
    held_out: int = field(default=20, metadata={"help": "Clips a class to test on; the others are trained on."})
    cache: str = field(default="runs/any_model/cache", metadata={"help": "Folder of decoded clips."})
    runs: str = field(default="runs/any_model", metadata={"help": "Folder of the JSON file, MODEL-REGIME-SEED.json."})
    workers: int = field(default=0, metadata={"help": "Processes that make batches beside the training."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(RunOptions, argv, __doc__)
    torch.set_num_threads(1)
    dataset = all_clips(options)
    setting = setting_of(options.model, options.steps, options.learning_rate)
    clips = decoded(dataset, setting, options.cache)
    train, test = (chosen(clips, part["row"][:]) for part in drawn(dataset, options.held_out, options.seed))
    model, seconds, recipe = trained(train, setting, options)
    result = provenance(f"python {COMMAND}", argv) | {
        **{name: getattr(options, name) for name in ("model", "regime", "seed")},
        **conditions(dataset, options.held_out, setting),
        "train_clips": len(train),
        "test_clips": len(test),
        "recipe": recipe,
        "parameters": parameters(model),
        "seconds": round(seconds, 1),
        "rows": tested(model, test, setting),
    }
    write_json(result_file(options.runs, options.model, options.regime, options.seed), result)
    print(json.dumps({name: result[name] for name in ("model", "regime", "seed", "seconds", "rows")}), flush=True)


def result_file(runs: str, model: str, regime: str, seed: int) -> Path:
    return Path(runs, f"{model}-{regime}-{seed}.json")


def setting_of(model: str, steps: int | None, learning_rate: float | None = None) -> Setting:
    """That of a model, with other steps and another learning rate where they are given."""
    given = {"steps": steps, "learning_rate": learning_rate}
    return replace(SETTINGS[model], **{name: value for name, value in given.items() if value is not None})


def conditions(dataset: Dataset, held_out: int, setting: Setting | None = None) -> dict:
    """What a file of a run says of its clips, `data`, and of its model, `setting`; baselines have no model."""
    data = {
        "files": file_list_hash(dataset),
        "label_names": dataset.features["label"].names,
        "held_out": held_out,
    }
    return {"data": data} if setting is None else {"data": data, "setting": json.loads(json.dumps(asdict(setting)))}


def all_clips(options) -> Dataset:
    return concatenate_datasets([load_video_dataset(options.data, name) for name in options.splits])


def decoded(dataset: Dataset, setting: Setting, cache: str) -> CachedClips:
    """Those of the whole data set at the grid's size and twice its frames, decoded once for all runs of a model."""
    return cache_clips(dataset, cache, num_frames=2 * setting.grid.frames, size=setting.grid.size)


def drawn(dataset: Dataset, held_out: int, seed: int) -> tuple[Dataset, Dataset]:
    """Clips to train on and clips to test on, a function of the seed, as many of every class; `row` is their number in
    the data set."""
    numbered = dataset.add_column("row", list(range(len(dataset))))
    fewest = int(min(np.bincount(dataset["label"][:])))
    return split(numbered, held_out, fewest - held_out, seed)


def chosen(clips: CachedClips, rows: list[int]) -> CachedClips:
    names = [clips.video_names[row] for row in rows]
    return CachedClips(clips.clips[rows], clips.labels[rows], clips.label_names, names)


def trained(clips: CachedClips, setting: Setting, options: RunOptions) -> tuple[torch.nn.Module, float, dict]:
    """The model, the seconds of training, and the settings of it."""
    model = enabled_model(options.model, clips.label_names, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        args = FluxTrainingArguments(
            **ALIKE,
            **budgets_and_grids(setting, options.regime),
            max_steps=setting.steps,
            learning_rate=setting.learning_rate,
            seed=options.seed,
            output_dir=folder,
            dataloader_num_workers=options.workers,
            dataloader_persistent_workers=options.workers > 0,
            eval_strategy="no",
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
        )
        args.per_device_train_batch_size = min(args.per_device_train_batch_size, len(clips))
        trainer = FluxTrainer(model=model, args=args, train_dataset=clips, processing_class=processor(setting))
        began = time.perf_counter()
        trainer.train()
        return model.eval(), time.perf_counter() - began, recipe_of(args)


def budgets_and_grids(setting: Setting, regime: str) -> dict:
    """What the ways differ in. Stock is one grid with all tokens kept."""
    (frames, size), budgets = setting.grid, setting.budgets
    all_tokens = budgets[0]
    if regime == "stock":
        frames, sizes, pool, budgets = (frames, frames), (size, size), (all_tokens, all_tokens), [all_tokens]
    else:
        frames, sizes = setting.flux_frames, setting.flux_sizes
        pool, budgets = (all_tokens // 2, all_tokens * 3 // 2), budgets[:3]
    arguments = {"token_budgets": budgets}
    for name, (fewest, most) in {"frames": frames, "size": sizes, "pool_tokens": pool}.items():
        arguments |= {f"min_{name}": fewest, f"max_{name}": most}
    return arguments


def processor(setting: Setting) -> FluxVideoProcessor:
    frames, size = setting.grid
    return FluxVideoProcessor(patch_size=PATCH, tubelet_size=TUBELET, num_frames=frames, size=size)


def tested(model: torch.nn.Module, clips: CachedClips, setting: Setting) -> list[dict]:
    """Accuracy at every budget with the paper's rule, and with other rules at a quarter of the tokens."""
    pixels, labels = test_pixels(clips, setting), torch.from_numpy(clips.labels)
    cases = [("group_dynamic", budget) for budget in setting.budgets]
    cases += [(rule, setting.budgets[SHARES.index(4)]) for rule in OTHER_RULES]
    rows = []
    for rule, budget in cases:
        torch.manual_seed(0)
        right = int((answers(model, pixels, budget, rule) == labels).sum())
        rows.append({"rule": rule, "tokens": budget, "top1": right / len(labels)})
        rows[-1]["top1_interval"] = wilson_interval(right, len(labels))
    return rows


def test_pixels(clips: CachedClips, setting: Setting) -> torch.Tensor:
    """The middle frames of equal segments, normalised: float (clips, frames, 3, size, size)."""
    middles = partial(segment_middles, num_frames=setting.grid.frames)
    frames = np.stack([clips.read(row, middles) for row in range(len(clips))])
    video, ours = torch.from_numpy(frames).movedim(-1, 2).float() / 255, processor(setting)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (ours.image_mean, ours.image_std))
    return (video - mean) / deviation


@torch.inference_mode()
def answers(model: torch.nn.Module, pixels: torch.Tensor, token_budget: int, rule: str) -> torch.Tensor:
    """The class of every clip."""
    device = next(model.parameters()).device
    logits = [
        model(part.to(device), token_budget=token_budget, token_selection=rule).logits for part in pixels.split(32)
    ]
    return torch.cat(logits).argmax(dim=1).cpu()


def parameters(model: torch.nn.Module) -> int:
    """Without V-JEPA 2's predictor, which takes no part."""
    return sum(values.numel() for name, values in model.named_parameters() if ".predictor." not in name)


if __name__ == "__main__":
    run_command(COMMAND, main)
