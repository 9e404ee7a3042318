"""The runs: training, measuring, and what is kept of them. Every run and every measurement goes on where it stopped."""

import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from tqdm import tqdm

from flux_hf.costs import forward_macs, view_gmacs
from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.evaluation.accuracy import model_labels
from flux_hf.evaluation.scoring import Arm, logits_at_budget, score_videos
from flux_hf.files import read_json, write_json, write_text
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.processing.grid_fluxvit import Grid, as_grid, grid_tokens
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views
from flux_hf.scripts.experiments.headline.models import METHODS, PLAIN, build_model, load_model
from flux_hf.scripts.experiments.headline.selection import SELECTIONS
from flux_hf.token_optimization import search_grids
from flux_hf.token_optimization.candidates import default_axes
from flux_hf.token_optimization.search import balanced_order
from flux_hf.training.checkpoint_folders import last_checkpoint
from flux_hf.training.label_symmetries import load_label_symmetries

SHARES = (1, 2, 4, 8)
"""Budgets: all tokens of the fixed grid divided by these."""

SAME = ("clips", "compute", "seconds")
SAVINGS = ("selector", "token_optimization", *SELECTIONS, "frames", "pixels")
CROP_MARGIN = 1.08


@dataclass
class HeadlineOptions:
    """What is compared on what. How to train is in `FluxTrainingArguments`; its output_dir holds everything."""

    dataset: str = field(metadata={"help": "Folder in videofolder layout, with train, validation and test."})
    cache_dir: str = field(metadata={"help": "Where decoded clips are kept."})
    model_config: str | None = field(
        default=None, metadata={"help": "JSON config of models with random weights; the experiment sets their heads."}
    )
    start: str | None = field(
        default=None, metadata={"help": "FluxViT checkpoint that all models start from, instead of model_config."}
    )
    num_frames: int = field(default=8, metadata={"help": "Frames of the fixed grid."})
    size: int = field(default=96, metadata={"help": "Side of the fixed grid in pixels."})
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Every model is trained once with each of them."}
    )
    methods: list[str] = field(
        default_factory=lambda: ["plain", "flux_fixed", "flux_single", "flux_multi"],
        metadata={"help": "Some of " + ", ".join(METHODS) + "."},
    )
    same: list[str] = field(
        default_factory=lambda: ["clips", "compute"],
        metadata={
            "help": "What all models get alike: clips (max_steps), compute or seconds (those of the plain model). "
            "Of several, all but clips are for Flux-Multi alone, whose steps cost most."
        },
    )
    step_seconds: list[str] = field(
        default_factory=list,
        metadata={"help": "With seconds: METHOD=SECONDS of a training step on this machine, for every method."},
    )
    savings: list[str] = field(
        default_factory=lambda: list(SAVINGS),
        metadata={"help": "Ways of saving tokens to test: some of " + ", ".join(SAVINGS) + "."},
    )
    validation_videos: int | None = field(
        default=None, metadata={"help": "Videos of the validation split to search grids on. Default: all."}
    )
    test_videos: int | None = field(
        default=None, metadata={"help": "Videos of the test split to test on. Default: all."}
    )
    clips_on_device: bool = field(
        default=False,
        metadata={"help": "Keep training clips decoded on the device and cut them out there: for a GPU, few clips."},
    )
    random_light: float = field(
        default=0.0,
        metadata={"help": "With clips_on_device: strength of random brightness and contrast of training clips."},
    )
    eval_batch_size: int = field(default=64, metadata={"help": "Clips per forward when measuring."})
    eval_workers: int = field(default=0, metadata={"help": "Decoding processes when measuring."})
    timed_forwards: int = field(
        default=7, metadata={"help": "Forwards on the CPU that the milliseconds are medians of; 0: none are timed."}
    )


@dataclass(frozen=True)
class Run:
    """One training. With `same` "clips" it gets as many clips as that of the plain model, with "compute" as many
    multiply-accumulates, with "seconds" about as much time."""

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
    if (options.model_config is None) == (options.start is None):
        raise ValueError(f"give model_config or start, got {options.model_config} and {options.start}")
    for name, known in (("methods", METHODS), ("same", SAME), ("savings", SAVINGS)):
        if (unknown := sorted(set(getattr(options, name)) - set(known))) or not getattr(options, name):
            raise ValueError(f"{name} must be some of {', '.join(known)}, got {unknown or 'none'}")
    if options.random_light and not options.clips_on_device:
        raise ValueError(f"random_light={options.random_light} needs clips_on_device=true")
    output = Path(training_args.output_dir)
    config = starting_config(options)
    if options.size % config.patch_size:
        raise ValueError(f"size must be a multiple of patch_size={config.patch_size}, got {options.size}")
    budgets = budgets_of(options, config)
    validation, test = (
        balanced_part(load_video_dataset(options.dataset, split), count)
        for split, count in (("validation", options.validation_videos), ("test", options.test_videos))
    )
    rows, steps = [], {}
    for run in planned_runs(options):
        folder = output / run.name
        steps[run.name] = train(run, options, training_args, config, folder)
        make = partial(measure, run, options, training_args, budgets, folder, validation, test)
        rows += kept_rows(folder / "measured.json", make)
    if options.timed_forwards:
        add_times(rows, output, options.timed_forwards)
    return {"rows": rows, "budgets": budgets, "config": config.to_diff_dict(), "runs": steps}


def balanced_part(videos: Dataset, count: int | None) -> Dataset:
    """`count` of the videos, the classes in turn; None for all."""
    return videos if count is None else videos.select(balanced_order(videos["label"][:], seed=0)[:count])


def starting_config(options: HeadlineOptions) -> FluxViTConfig:
    """That of `start`, or of `model_config` with a position table of the fixed grid."""
    if options.start is not None:
        return FluxViTConfig.from_pretrained(options.start)
    config = FluxViTConfig.from_json_file(options.model_config)
    config.position_frames, config.position_size = options.num_frames, options.size
    return config


def planned_runs(options: HeadlineOptions) -> list[Run]:
    """Every method with the same clips or with the same compute; of both, Flux-Multi alone with the same compute."""
    kinds = [(method, same) for same in options.same for method in options.methods]
    if len(options.same) > 1:
        kinds = [(method, same) for method, same in kinds if same == "clips" or method == "flux_multi"]
    return [Run(method, same, seed) for seed in options.seeds for method, same in kinds]


def budgets_of(options: HeadlineOptions, config: FluxViTConfig) -> list[int]:
    """All tokens of the fixed grid, a half, a quarter and an eighth."""
    tokens = grid_tokens(Grid(options.num_frames, options.size), config.patch_size, config.tubelet_size)
    return [tokens // share for share in SHARES]


def train(run: Run, options: HeadlineOptions, training_args, config: FluxViTConfig, folder: Path) -> dict:
    """Train a run that is not done yet, from its last checkpoint if there is one; `steps` and `seconds`.

    All methods train with `FluxTrainer`, on the same cached clips with the same augmentation. The fixed-grid ones have
    one grid, one budget (all its tokens) and one head, which makes it plain supervised training.
    """
    from transformers import set_seed

    from flux_hf.scripts.experiments.headline.device_clips import DeviceClipsTrainer
    from flux_hf.training import FluxTrainer

    done = folder / "done.json"
    if done.exists():
        return read_json(done)
    set_seed(run.seed)
    args = run_arguments(run, options, training_args, config, folder)
    clips = cache_clips(
        load_video_dataset(options.dataset, "train"),
        options.cache_dir,
        num_frames=2 * options.num_frames,
        size=round(flux_sizes(options, config)[1] * CROP_MARGIN),
    )
    config = copy.deepcopy(config)
    config.head_token_budgets = list(args.token_budgets)
    config.token_budget = max(args.token_budgets)
    names = dict(enumerate(clips.label_names))
    config.update({"id2label": names, "label2id": {name: index for index, name in names.items()}})
    grid = (options.num_frames, options.size)
    processor = FluxVideoProcessor(
        patch_size=config.patch_size,
        tubelet_size=config.tubelet_size,
        token_budget=config.token_budget,
        grids=dict.fromkeys(budgets_of(options, config), grid),
    )
    make_trainer = partial(DeviceClipsTrainer, light=options.random_light) if options.clips_on_device else FluxTrainer
    trainer = make_trainer(
        model=build_model(run.method, config, options.start),
        args=args,
        train_dataset=clips,
        processing_class=processor,
    )
    last, _ = last_checkpoint(folder)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(str(folder))
    facts = {"steps": trainer.state.global_step, "seconds": time.perf_counter() - started, "resumed": last is not None}
    write_json(done, facts)
    return facts


def run_arguments(run: Run, options: HeadlineOptions, training_args, config: FluxViTConfig, folder: Path):
    """The training arguments of a run. Flux-Multi draws grids of half to twice the frames and of two thirds to 7/6 of
    the size, with two thirds to four thirds of the fixed grid's tokens (the paper: 2048 to 4096 around 3072), and
    trains on all, a half and a quarter of them in one step, or with `one_budget_per_step` on one of the three;
    Flux-Single draws the same grids and trains on a half. `flux_few` and `plain_few` train on a quarter of the fixed
    grid."""
    if training_args.max_steps < 1:
        raise ValueError(
            f"max_steps must be given, the compute of the runs is set by it; got {training_args.max_steps}"
        )
    args = copy.copy(training_args)
    args.output_dir, args.seed, args.eval_strategy = str(folder), run.seed, "no"
    budgets = budgets_of(options, config)
    few, single = budgets[2:3], budgets[1:2]
    of_method = {"flux_single": single, "flux_multi": budgets[:3], "flux_few": few, "plain_few": few}
    trained = of_method.get(run.method, budgets[:1])
    if run.same == "compute":
        macs = [forward_macs(config, budget) for budget in trained]
        of_step = statistics.mean(macs) if args.one_budget_per_step else sum(macs)
        args.max_steps = max(1, round(args.max_steps * forward_macs(config, budgets[0]) / of_step))
    elif run.same == "seconds":
        seconds = seconds_of_steps(options.step_seconds, ("plain", run.method))
        args.max_steps = max(1, round(args.max_steps * seconds["plain"] / seconds[run.method]))
    args.token_budgets = trained
    if run.method in (*PLAIN, "flux_fixed", "flux_few"):
        args.min_frames = args.max_frames = options.num_frames
        args.min_size = args.max_size = options.size
        args.min_pool_tokens = args.max_pool_tokens = budgets[0]
        return args
    args.min_frames, args.max_frames = max(2, options.num_frames // 2), 2 * options.num_frames
    args.frames_step = max(args.frames_step, config.tubelet_size)
    args.size_step = config.patch_size
    args.min_size, args.max_size = flux_sizes(options, config)
    args.min_pool_tokens, args.max_pool_tokens = budgets[0] * 2 // 3, budgets[0] * 4 // 3
    return args


def seconds_of_steps(entries: list[str], methods: tuple[str, ...]) -> dict[str, float]:
    """METHOD=SECONDS as a table. Raises ValueError for an entry that is none, and for a method that has none."""
    seconds = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        try:
            seconds[name] = float(value)
        except ValueError:
            raise ValueError(f"step_seconds must be METHOD=SECONDS, got {entry!r}") from None
    if missing := [name for name in methods if seconds.get(name, 0) <= 0]:
        raise ValueError(f"same seconds needs step_seconds above 0 of {', '.join(missing)}, got {entries}")
    return seconds


def flux_sizes(options: HeadlineOptions, config: FluxViTConfig) -> tuple[int, int]:
    """Smallest and largest size in pixels of the grids of Flux training."""
    patches = options.size / config.patch_size
    return tuple(max(1, round(patches * share)) * config.patch_size for share in (2 / 3, 7 / 6))


def kept_rows(file: Path, make: Callable[[], list[dict]]) -> list[dict]:
    """The rows in a file, made and written now where there is none."""
    if not file.exists():
        write_text(file, json.dumps(make()) + "\n")
    return read_json(file)


def measure(
    run: Run,
    options: HeadlineOptions,
    training_args,
    budgets: list[int],
    folder: Path,
    validation: Dataset,
    test: Dataset,
) -> list[dict]:
    """Accuracy on the test split for every way of `options.savings` at every budget; one decoding of a video serves
    all, and forwards run on the device of training.

    Returns:
        rows with `method`, `same`, `seed`, `saving`, `budget`, `grid`, `top1`, `gmacs`, `videos`. `saving` is
        "selector" (the model's own on the fixed grid), "token_optimization" (the same on grids searched on the
        validation split), "random", "tube", "dynamic" (other selections on the fixed grid), "frames" or "pixels" (a
        smaller grid kept whole: fewer frames, or a smaller size, with at most as many tokens as the budget). Where
        `label_symmetries` say what clips are backwards, `backwards` is how often the answer is the label that the clip
        would have then: what it shows is known, and its direction is not.
    """
    model = load_model(run.method, folder).to(training_args.device)
    processor = FluxVideoProcessor.from_pretrained(folder)
    shared = {"batch_size": options.eval_batch_size, "num_workers": options.eval_workers}
    axes = default_axes(model)
    found = search_grids(validation, model, processor, budgets, *axes, records_dir=folder / "search", **shared)
    grids = {budget: as_grid(found["budgets"][budget]["grid"]) for budget in budgets}
    arms = planned_arms(Grid(options.num_frames, options.size), grids, model.patch_shape)
    arms = {key: arm for key, arm in arms.items() if key[0] in options.savings}
    rows, label_ids = list(range(len(test))), model_labels(test, model)
    records = score_videos(test, rows, model, processor, [*arms.values()], Views(), label_ids=label_ids, **shared)
    readable = [record for record in records if "reason" not in record]
    labels = [record["label"] for record in readable]
    answers = [[answer["top"][0] for answer in record["arms"]] for record in readable]
    reverse = reversed_labels(training_args.label_symmetries, model.label_names)
    turned = [reverse[label] if reverse else label for label in labels]
    return [
        {
            **vars(run),
            "saving": saving,
            "budget": budget,
            "grid": list(arm.grid),
            "top1": _share_equal(given, labels),
            **({"backwards": _share_equal(given, turned)} if reverse else {}),
            "gmacs": view_gmacs(model, budget, arm.grid),
            "videos": len(answers),
        }
        for ((saving, budget), arm), given in zip(arms.items(), zip(*answers, strict=True), strict=True)
    ]


def reversed_labels(label_symmetries: str | None, names: list[str]) -> list[int | None] | None:
    """For every label that of the clip played backwards, None where that is the same or does not exist. None without
    such a table."""
    symmetries = load_label_symmetries(label_symmetries, names) if label_symmetries else None
    if symmetries is None or "backwards" not in symmetries.images:
        return None
    return [None if image == label else image for label, image in enumerate(symmetries.images["backwards"])]


def _share_equal(given: list[int], labels: list[int | None]) -> float:
    return statistics.mean(answer == label for answer, label in zip(given, labels, strict=True))


def planned_arms(fixed: Grid, optimised: dict[int, Grid], patch_shape: tuple[int, int]) -> dict[tuple[str, int], Arm]:
    """(way of saving tokens, budget) -> what to score. `patch_shape`: frames and pixels of a token."""
    arms = {}
    for budget, grid in optimised.items():
        fewer_frames, fewer_pixels = smaller_grids(fixed, budget, *patch_shape)
        arms["selector", budget] = Arm(budget, fixed)
        arms["token_optimization", budget] = Arm(budget, grid)
        arms |= {(name, budget): Arm(budget, fixed, forward) for name, forward in SELECTIONS.items()}
        arms["frames", budget] = Arm(budget, fewer_frames)
        arms["pixels", budget] = Arm(budget, fewer_pixels)
    return arms


def smaller_grids(grid: Grid, budget: int, tubelet_size: int, patch_size: int) -> tuple[Grid, Grid]:
    """The grid with fewer frames, and with a smaller size: as large as fits into the budget, at least one tubelet and
    one patch."""
    fewer = min(grid.frames, max(1, budget // grid_tokens(Grid(1, grid.size), patch_size)) * tubelet_size)
    sizes = (Grid(grid.frames, size) for size in range(grid.size, 0, -patch_size))
    fits = (smaller for smaller in sizes if grid_tokens(smaller, patch_size, tubelet_size) <= budget)
    return Grid(fewer, grid.size), next(fits, Grid(grid.frames, patch_size))


@torch.inference_mode()
def add_times(rows: list[dict], output: Path, forwards: int) -> None:
    """Adds `ms` to every row: median milliseconds of so many forwards with one clip of noise on the CPU of this
    machine. All rows take turns, after one round that is not counted."""
    methods = {_run_of(row): row["method"] for row in rows}
    models = {run: load_model(method, output / run.name) for run, method in methods.items()}
    times = [[] for _ in rows]
    for _ in tqdm(range(1 + forwards), desc="timing"):
        for row, seconds in zip(rows, times, strict=True):
            model, (frames, size) = models[_run_of(row)], row["grid"]
            forward = SELECTIONS.get(row["saving"], logits_at_budget)
            pixels = torch.randn(1, frames, model.config.num_channels, size, size)
            started = time.perf_counter()
            forward(model, pixels, row["budget"])
            seconds.append(time.perf_counter() - started)
    for row, seconds in zip(rows, times, strict=True):
        row["ms"] = 1000 * statistics.median(seconds[1:])


def _run_of(row: dict) -> Run:
    return Run(row["method"], row["same"], row["seed"])
