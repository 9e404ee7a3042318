"""The runs: training, measuring, and what is kept of them. Every run and every measurement goes on where it stopped."""

import copy
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset

from flux_hf.costs import forward_macs
from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.scoring import logits_at_budget
from flux_hf.headline.models import METHODS, build_model, load_model
from flux_hf.headline.selection import SELECTIONS
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.token_optimization import search_grids
from flux_hf.token_optimization.candidates import default_axes

SHARES = (1, 2, 4, 8)
"""Budgets: all tokens of the fixed grid divided by these."""

TIMED_FORWARDS = 7
CROP_MARGIN = 1.08


@dataclass
class HeadlineOptions:
    """What is compared on what. How to train is in `FluxTrainingArguments`; its output_dir holds everything."""

    dataset: str = field(metadata={"help": "Folder in videofolder layout, with train, validation and test."})
    cache_dir: str = field(metadata={"help": "Where decoded clips are kept."})
    model_config: str = field(metadata={"help": "JSON config of the model; its heads are set by the experiment."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the fixed grid."})
    size: int = field(default=96, metadata={"help": "Side of the fixed grid in pixels."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One training of each for each."})
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": "Some of plain, flux_fixed, flux_single, flux_multi."}
    )
    eval_batch_size: int = field(default=64, metadata={"help": "Clips per forward when measuring."})
    eval_workers: int = field(default=0, metadata={"help": "Decoding processes when measuring."})


@dataclass(frozen=True)
class Run:
    """One training. `compute` runs get the multiply-accumulates of the plain model's, the others its clips."""

    method: str
    same: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-same_{self.same}-seed{self.seed}"


def reproduce_headline(options: HeadlineOptions, training_args) -> dict:
    """Train and measure everything that is not there yet.

    Returns:
        `rows`, one for each run x way of saving tokens x budget, see `measure`, and `budgets`, `config`, `runs`.

    Raises:
        ValueError: an option is not accepted.
    """
    if unknown := sorted(set(options.methods) - set(METHODS)):
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, got {unknown}")
    output = Path(training_args.output_dir)
    config = FluxViTConfig.from_json_file(options.model_config)
    if options.size % config.patch_size:
        raise ValueError(f"size must be a multiple of patch_size={config.patch_size}, got {options.size}")
    budgets = budgets_of(options, config)
    validation, test = (load_video_dataset(options.dataset, split) for split in ("validation", "test"))
    rows, steps = [], {}
    for run in planned_runs(options):
        folder = output / run.name
        steps[run.name] = train(run, options, training_args, config, folder)
        rows += measure(run, options, budgets, folder, validation, test)
    return {"rows": rows, "budgets": budgets, "config": config.to_diff_dict(), "runs": steps}


def planned_runs(options: HeadlineOptions) -> list[Run]:
    """Every method with the same clips; Flux-Multi, whose steps cost more, also with the same compute."""
    kinds = [(method, "clips") for method in options.methods]
    kinds += [("flux_multi", "compute")] if "flux_multi" in options.methods else []
    return [Run(method, same, seed) for seed in options.seeds for method, same in kinds]


def budgets_of(options: HeadlineOptions, config: FluxViTConfig) -> list[int]:
    """All tokens of the fixed grid, a half, a quarter and an eighth."""
    tokens = options.num_frames * (options.size // config.patch_size) ** 2
    return [tokens // share for share in SHARES]


def train(run: Run, options: HeadlineOptions, training_args, config: FluxViTConfig, folder: Path) -> dict:
    """Train a run that is not done yet, from its last checkpoint if there is one; `steps` and `seconds`.

    All methods train with `FluxTrainer`, on the same cached clips with the same augmentation. The fixed-grid ones have
    one grid, one budget (all its tokens) and one head, which makes it plain supervised training.
    """
    from transformers import set_seed
    from transformers.trainer_utils import get_last_checkpoint

    from flux_hf.training import FluxTrainer

    done = folder / "done.json"
    if done.exists():
        return json.loads(done.read_text())
    set_seed(run.seed)
    args = run_arguments(run, options, training_args, config, folder)
    clips = cache_clips(
        load_video_dataset(options.dataset, "train"),
        options.cache_dir,
        num_frames=2 * options.num_frames,
        size=round(args.max_size * CROP_MARGIN),
    )
    config = copy.deepcopy(config)
    config.head_token_budgets = list(args.token_budgets)
    config.token_budget = max(args.token_budgets)
    names = dict(enumerate(clips.label_names))
    config.update({"id2label": names, "label2id": {name: index for index, name in names.items()}})
    grid = (options.num_frames, options.size)
    processor = FluxVideoProcessor(
        patch_size=config.patch_size,
        token_budget=config.token_budget,
        grids=dict.fromkeys(budgets_of(options, config), grid),
    )
    trainer = FluxTrainer(
        model=build_model(run.method, config), args=args, train_dataset=clips, processing_class=processor
    )
    last = get_last_checkpoint(str(folder)) if folder.exists() else None
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(str(folder))
    facts = {"steps": trainer.state.global_step, "seconds": time.perf_counter() - started, "resumed": last is not None}
    done.write_text(json.dumps(facts) + "\n")
    return facts


def run_arguments(run: Run, options: HeadlineOptions, training_args, config: FluxViTConfig, folder: Path):
    """The training arguments of a run. Flux-Multi draws grids of half to twice the frames and of two thirds to 7/6 of
    the size, with two thirds to four thirds of the fixed grid's tokens (the paper: 2048 to 4096 around 3072), and
    trains on all, a half and a quarter of them in one step; Flux-Single draws the same grids and trains on a half."""
    if training_args.max_steps < 1:
        raise ValueError(
            f"max_steps must be given, the compute of the runs is set by it; got {training_args.max_steps}"
        )
    args = copy.copy(training_args)
    args.output_dir, args.seed, args.eval_strategy = str(folder), run.seed, "no"
    budgets = budgets_of(options, config)
    if run.method in ("plain", "flux_fixed"):
        args.token_budgets = budgets[:1]
        args.min_frames = args.max_frames = options.num_frames
        args.min_size = args.max_size = options.size
        args.min_pool_tokens = args.max_pool_tokens = budgets[0]
        return args
    args.token_budgets = budgets[1:2] if run.method == "flux_single" else budgets[:3]
    args.min_frames, args.max_frames = max(2, options.num_frames // 2), 2 * options.num_frames
    patches, args.size_step = options.size // config.patch_size, config.patch_size
    args.min_size = max(1, round(patches * 2 / 3)) * config.patch_size
    args.max_size = max(1, round(patches * 7 / 6)) * config.patch_size
    args.min_pool_tokens, args.max_pool_tokens = budgets[0] * 2 // 3, budgets[0] * 4 // 3
    if run.same == "compute":
        plain = forward_macs(config, budgets[0])
        args.max_steps = max(1, round(args.max_steps * plain / sum(forward_macs(config, b) for b in budgets[:3])))
    return args


def measure(
    run: Run, options: HeadlineOptions, budgets: list[int], folder: Path, validation: Dataset, test: Dataset
) -> list[dict]:
    """Accuracy on the test split for every way of saving tokens at every budget.

    Returns:
        rows with `method`, `same`, `seed`, `saving`, `budget`, `grid`, `top1`, `gmacs`, `ms` (a forward with one clip).
        `saving` is "selector" (the model's own on the fixed grid), "token_optimization" (the same on grids searched on
        the validation split), "random", "tube", "dynamic" (other selections on the fixed grid), "frames" or "pixels"
        (a smaller grid kept whole: fewer frames, or a smaller size, with at most as many tokens as the budget).
    """
    model = load_model(run.method, folder)
    processor = FluxVideoProcessor.from_pretrained(folder)
    shared = {"batch_size": options.eval_batch_size, "num_workers": options.eval_workers}
    fixed = (options.num_frames, options.size)
    axes = default_axes(model.config)
    found = search_grids(validation, model, processor, budgets, *axes, records_dir=folder / "search", **shared)
    smaller = [smaller_grids(fixed, budget, model.config.patch_size) for budget in budgets]
    ways = {
        "selector": (dict.fromkeys(budgets, fixed), logits_at_budget),
        "token_optimization": ({b: tuple(found["budgets"][b]["grid"]) for b in budgets}, logits_at_budget),
        **{name: (dict.fromkeys(budgets, fixed), forward) for name, forward in SELECTIONS.items()},
        "frames": ({b: grids[0] for b, grids in zip(budgets, smaller, strict=True)}, logits_at_budget),
        "pixels": ({b: grids[1] for b, grids in zip(budgets, smaller, strict=True)}, logits_at_budget),
    }
    rows = []
    for saving, (grids, forward) in ways.items():
        chosen = copy.deepcopy(processor)
        chosen.grids = grids
        result = evaluate(
            test, model, chosen, budgets, records_dir=folder / f"test_{saving}", forward=forward, **shared
        )
        for budget in budgets:
            figures = result["budgets"][budget]
            rows.append(
                {
                    "method": run.method,
                    "same": run.same,
                    "seed": run.seed,
                    "saving": saving,
                    "budget": budget,
                    "grid": figures["grid"],
                    "top1": figures["top1"],
                    "gmacs": figures["gmacs"],
                    "ms": forward_ms(model, budget, figures["grid"], forward),
                    "videos": result["num_videos"],
                }
            )
    return rows


def smaller_grids(grid: tuple[int, int], budget: int, patch_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The grid with fewer frames, and with a smaller size: as large as fits into the budget, at least one frame and one
    patch."""
    frames, patches = grid[0], grid[1] // patch_size
    fewer = max(1, min(frames, budget // patches**2))
    side = max([1, *(p for p in range(1, patches + 1) if frames * p * p <= budget)])
    return (fewer, grid[1]), (frames, side * patch_size)


@torch.inference_mode()
def forward_ms(model, token_budget: int, grid: list[int], forward) -> float:
    """Median milliseconds of a forward with one clip of noise on this machine, after two that are not counted."""
    pixels = torch.randn(1, grid[0], model.config.num_channels, grid[1], grid[1], device=model.device)
    times = []
    for _ in range(2 + TIMED_FORWARDS):
        started = time.perf_counter()
        forward(model, pixels, token_budget)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])
