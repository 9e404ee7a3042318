"""Accuracy at several budgets, from the files to the figures: clips x crops, any number of processes, resumable."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets import Dataset

from flux_hf.costs import auto_gmacs, view_gmacs
from flux_hf.evaluation.figures import classification_figures, wilson_interval
from flux_hf.evaluation.processes import complete_records, open_records
from flux_hf.evaluation.scoring import Arm, logits_at_budget, score_videos
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.modeling.token_selection_fluxvit import SelectionRule, selection_name, selection_rule
from flux_hf.processing.grid_fluxvit import Grid, as_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views, check_processor
from flux_hf.provenance import file_list_hash, model_hash, video_names


def evaluate(
    dataset: Dataset,
    model: FluxModel,
    processor: FluxVideoProcessor,
    token_budgets: list[int | str],
    *,
    num_clips: int = 1,
    num_crops: int = 1,
    clip_sampling: str = "middles",
    batch_size: int = 32,
    num_workers: int = 0,
    token_selection: str | SelectionRule | Callable | None = None,
    of_classes: bool = True,
    records_dir: str | Path | None = None,
) -> dict:
    """Classify every video at every budget: softmax for each view, mean over clips x crops, highest class.

    The videos are shared out among the processes of `torchrun` or `accelerate launch`, none twice; every process
    returns the whole result.

    Args:
        dataset: as `load_video_dataset` returns it; its label names must be the model's. Where it has the columns
            `start` and `end` (seconds), all clips are taken between them.
        token_budgets: budgets, on the grids the processor chooses. One decoding of a video serves all of them. "auto"
            is one, too: the smallest one that is sure enough of the mean over the views.
        num_clips, num_crops, clip_sampling: the views, see `Views`. Kinetics: 4 x 3 "middles"; Something-Something:
            2 x 3 "ticks"; default one clip, central crop, which is what the processor makes of a video.
        batch_size: views per forward.
        num_workers: decoding processes beside each main one.
        token_selection: rule that selects tokens, by name or as it is, see `SelectionRule`; default the model's. A
            random one draws for each clip from a seed that its pixels give.
        of_classes: False leaves out `mean_class`, `per_class` and `confusion`, for thousands of classes.
        records_dir: folder for per-video results, shared by all processes. A run that was interrupted goes on from
            there. Default: nothing is kept.

    Returns:
        `num_videos`, `unreadable` (list of {"video", "reason"}; they are in no figure), `damaged` (list of {"video",
        "replaced_frames"}: frames that others stand in for), `label_names`,
        `files` (`file_list_hash`), `model` (sha256 of the weights), `token_selection` (name of the rule), `views`,
        `decoding`, `speed` of this run, and `budgets`: for each budget `grid`, `grids_used` (with how many videos),
        `gmacs` (of one view, the mean over videos), `gmacs_x_views`, `top1`, `top1_interval` (95 %), `top5`,
        `mean_class`, `per_class`, `confusion`; of "auto" also `answered` (budget -> on how many videos it answered).

    Raises:
        ValueError: the data set has labels the model does not know, a setting is not accepted, the model is not
            calibrated for "auto", or `records_dir` holds results of other settings.
    """
    if len(set(token_budgets)) < len(token_budgets) or not token_budgets:
        raise ValueError(f"token_budgets must name at least one budget, each once, got {list(token_budgets)}")
    views = Views(num_clips, num_crops, clip_sampling)
    check_processor(processor, views)
    label_ids = model_labels(dataset, model)
    rule = model.token_selection if token_selection is None else token_selection
    files = file_list_hash(dataset)
    settings = {
        "files": files,
        "model": model_hash(model),
        "processor": processor.to_dict(),
        "token_budgets": list(token_budgets),
        "token_selection": selection_name(rule),
        "views": vars(views),
    }
    if AUTO in token_budgets:
        settings["adaptive_budget"] = _checked_for_auto(model, rule)
    fixed, auto = (partial(forward, token_selection=rule) for forward in (logits_at_budget, forward_auto))
    arms = [Arm(budget, forward=auto if budget == AUTO else fixed) for budget in token_budgets]
    options = {"label_ids": label_ids, "batch_size": batch_size, "num_workers": num_workers}
    folder, done = open_records(records_dir, settings)
    records, speed = complete_records(
        list(range(len(dataset))),
        done,
        lambda rows: score_videos(dataset, rows, model, processor, arms, views, **options),
        folder,
    )
    speed["clips_per_second"] = (
        speed["videos"] * views.count * len(arms) / speed["seconds"] if speed["videos"] else None
    )
    scored, videos = scored_videos(records, dataset)
    return {
        **videos,
        "label_names": model.label_names,
        "files": files,
        "model": settings["model"],
        "token_selection": settings["token_selection"],
        "views": vars(views),
        "decoding": processor.decoding,
        "speed": speed,
        "budgets": {
            budget: _figures(scored, place, budget, model, processor, views, of_classes)
            for place, budget in enumerate(token_budgets)
        },
    }


def forward_auto(model: FluxModel, pixels, token_budget: str, **options):
    """The `forward` of an [`Arm`] whose budget is "auto"."""
    return model(pixels, token_budget=token_budget, **options)


def _checked_for_auto(model: FluxModel, rule) -> dict:
    """What "auto" answers by. Raises ValueError where nothing is decoded in vain."""
    if selection_rule(rule).random:
        raise ValueError(f'token_budgets: "auto" is not for a rule that draws tokens at random, {selection_name(rule)}')
    if getattr(model.flux_settings, "adaptive_budget", None) is None:
        raise ValueError(
            'token_budgets: the model is not calibrated for "auto"; flux-hf optimize-tokens --objective adaptive does '
            "that"
        )
    return model.flux_settings.adaptive_budget


def model_labels(dataset: Dataset, model: FluxModel) -> list[int]:
    """The model's class for each label of the data set. Raises ValueError naming labels the model does not know."""
    names = dataset.features["label"].names
    classes = {name: index for index, name in enumerate(model.label_names)}
    if unknown := sorted(set(names) - set(classes)):
        raise ValueError(f"the model has no label {unknown}; it knows {sorted(classes)}")
    return [classes[name] for name in names]


def scored_videos(records: list[dict], dataset: Dataset) -> tuple[list[dict], dict]:
    """The records of readable videos, and `num_videos`, `unreadable` and `damaged` of a result, see [`evaluate`]."""
    names = video_names(dataset)
    scored = [record for record in records if "reason" not in record]
    unreadable = [{"video": names[r["row"]], "reason": r["reason"]} for r in records if "reason" in r]
    damaged = [
        {"video": names[r["row"]], "replaced_frames": r["replaced_frames"]} for r in scored if "replaced_frames" in r
    ]
    return scored, {
        "num_videos": len(scored),
        "unreadable": sorted(unreadable, key=lambda entry: entry["video"]),
        "damaged": sorted(damaged, key=lambda entry: entry["video"]),
    }


def grid_figures(answers: list[dict], budget: int | str, model, processor: FluxVideoProcessor, views: Views) -> dict:
    """`grid`, `grids_used`, `gmacs` and `gmacs_x_views` of one budget of a result, see [`evaluate`].

    Args:
        answers: the entries of the budget in the records' `arms`.
        model: what `view_gmacs` counts.
    """
    nominal = processor.choose_grid(budget)
    used = Counter(as_grid(answer["grid"]) for answer in answers) or Counter({nominal: 1})
    if budget == AUTO:
        costs = [auto_gmacs(model, answer["answered"], as_grid(answer["grid"])) for answer in answers]
        gmacs = sum(costs) / len(costs) if costs else None
        answered = Counter(answer["answered"] for answer in answers)
        found = {"answered": dict(sorted(answered.items()))}
    else:
        gmacs, found = sum(n * view_gmacs(model, budget, grid) for grid, n in used.items()) / used.total(), {}
    return found | {
        "grid": list(nominal),
        "grids_used": {_short(grid): used[grid] for grid in sorted(used, key=_order)} if answers else {},
        "gmacs": gmacs,
        "gmacs_x_views": None if gmacs is None else gmacs * views.count,
    }


def _figures(
    scored: list[dict], place: int, budget: int | str, model, processor, views: Views, of_classes: bool
) -> dict:
    answers = [record["arms"][place] for record in scored]
    labels = [record["label"] for record in scored]
    figures = classification_figures(
        labels,
        [answer["top"] for answer in answers],
        model.label_names,
        of_classes=of_classes,
    )
    right = sum(label == answer["top"][0] for label, answer in zip(labels, answers, strict=True))
    return {
        **grid_figures(answers, budget, model, processor, views),
        "top1_interval": wilson_interval(right, len(labels)),
        **figures,
    }


def _order(grid: Grid) -> tuple[int, ...]:
    return grid.frames, *grid.pixels()


def _short(grid: Grid) -> str:
    """8x224 for squares, else 8x168x224."""
    return f"{grid.frames}x{grid.size}" if isinstance(grid.size, int) else "x".join(map(str, _order(grid)))
