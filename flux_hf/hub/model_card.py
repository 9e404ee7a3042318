"""The model card of a checkpoint, from its files and from what was measured."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

import flux_hf
from flux_hf.conversion.convert import REPORT_FILE
from flux_hf.costs import clip_tokens, view_gmacs
from flux_hf.files import read_json
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.processing.grid_fluxvit import as_grid
from flux_hf.tables import code, code_block, markdown, printable

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
PAPER = "https://arxiv.org/abs/2503.14237"


@dataclass(frozen=True)
class Base:
    """Hub id of what a model was made from, and its licence; None is not known."""

    name: str | None = None
    licence: str | None = None


def build_model_card(
    folder: str | Path,
    repo_id: str,
    model,
    processor,
    *,
    evaluations: list[dict] = (),
    recipe: dict | None = None,
    latency: dict | None = None,
    base: Base = Base(),
) -> ModelCard:
    """Write the card of a checkpoint folder; every figure in it comes from one of the arguments or files.

    Args:
        folder: may hold `conversion.json` (`flux-hf convert`) and `trainer_state.json` (Trainer).
        repo_id: name on the Hub.
        model, processor: what the folder holds, loaded: the classifier; of a pre-training checkpoint the encoder, whose
            card tells how to fine-tune it and has no accuracy; or a dual encoder, whose costs are those of its video
            tower.
        evaluations: contents of JSON files of `flux-hf evaluate`. To show what Token Optimization does give two files,
            or one with budgets of both kinds: some whose grids have more tokens than are kept, some with just as many.
        recipe: what the training was started with; its `dataset` and `model` become metadata when they are on the Hub.
        latency: what `flux_hf.latency.forward_latency` returns.
        base: of a model that is no FluxViT, what it was made from. Default: not known.

    Returns:
        `ModelCard`; its metadata has passed huggingface_hub's checks.
    """
    folder, recipe = Path(folder), recipe or {}
    name, is_classifier = repo_id.rpartition("/")[2], type(model).__name__.endswith("ForVideoClassification")
    words = model.config.model_type == "fluxvit_clip"
    whole, model, processor = model, *((model.vision_model, processor.video_processor) if words else (model, processor))
    config, is_fluxvit = model.config, model.config.model_type == "fluxvit"
    base = (
        Base(recipe.get("model") if is_hub_id(recipe.get("model")) else None, "mit") if is_fluxvit else base or Base()
    )
    results = [result for evaluation in evaluations for result in _results(evaluation)]
    named = recipe.get("dataset")
    sources = [
        *(named if isinstance(named, list) else [named]),
        *(evaluation.get("dataset") for evaluation in evaluations),
    ]
    data = ModelCardData(
        model_name=name,
        license=None if words else base.licence,
        library_name="transformers",
        pipeline_tag="video-classification" if is_classifier else "feature-extraction",
        tags=[whole.config.model_type, "video", *["zero-shot-video-classification"] * words, "arxiv:2503.14237"],
        datasets=sorted({source for source in sources if is_hub_id(source)}) or None,
        base_model=base.name,
        metrics=["accuracy"] if results else None,
        eval_results=results or None,
    )
    shown = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).rstrip()
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        repo_id=repo_id,
        paper=PAPER,
        version=flux_hf.__version__,
        family=None if is_fluxvit else family(config),
        base=base,
        config=config,
        words=whole.config if words else None,
        written_by=whole.config.transformers_version,
        layers=model.num_layers,
        patch_shape=model.patch_shape,
        token_budgets=model.token_budgets,
        has_code="auto_map" in (_json(folder / "config.json") or {}),
        parameters=sum(parameter.numel() for parameter in whole.parameters()),
        classes=[model.config.id2label[index] for index in range(model.config.num_labels)] if is_classifier else None,
        markdown=markdown,
        code=code,
        rows=[_cost(budget, model, processor, latency) for budget in card_budgets(model, processor)],
        latency=latency,
        evaluations=[_evaluation(evaluation, model) for evaluation in evaluations],
        recipe=code_block(shown, "yaml") if recipe else None,
        training=_training(folder / "trainer_state.json"),
        conversion=_json(folder / REPORT_FILE),
    )


def family(config) -> str:
    """What transformers calls the models of a configuration: VideoMAE, VJEPA2; else their `model_type`."""
    stock = (kind.__name__ for kind in type(config).__mro__ if kind.__module__.startswith("transformers.models."))
    return next(stock, config.model_type).removesuffix("Config")


def card_budgets(model, processor) -> list[int]:
    """Budgets that a card has a row for: those of the model, and those that the processor has a grid for."""
    return sorted({*model.token_budgets, *(processor.grids or {})} - {AUTO}, reverse=True)


def _cost(budget: int, model, processor, latency: dict | None) -> dict:
    grid = processor.choose_grid(budget)
    tokens = clip_tokens(model, grid)
    return {
        "budget": budget,
        "grid": str(grid),
        "kept": min(budget, tokens),
        "tokens": tokens,
        "gmacs": view_gmacs(model, budget, grid),
        "milliseconds": None if latency is None else latency["milliseconds"][budget],
    }


def read_evaluation(path: str | Path) -> dict:
    """The JSON file of `flux-hf evaluate`. Raises ValueError, naming the file, where it is none."""
    evaluation = read_json(path)
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("budgets"), dict):
        raise ValueError(f"{path} is no result of flux-hf evaluate --output: it has no budgets")
    figures = [(f"budgets.{budget}", each, ("grid", "gmacs", "top1")) for budget, each in evaluation["budgets"].items()]
    for where, found, names in [("", evaluation, ("dataset", "split", "num_videos")), *figures]:
        if missing := [name for name in names if not isinstance(found, dict) or name not in found]:
            raise ValueError(f"{path} is no result of flux-hf evaluate --output: {where} lacks {', '.join(missing)}")
    return evaluation


def _evaluation(evaluation: dict, model) -> dict:
    rows = []
    for budget, figures in _by_budget(evaluation):
        grid = as_grid(figures["grid"])
        tokens = clip_tokens(model, grid)
        if budget == AUTO:
            selection = f"{' or '.join(map(str, figures['answered']))} of {tokens}"
        else:
            selection = f"{budget} of {tokens}" if tokens > budget else f"none, all {tokens}"
        top1 = "–" if figures["top1"] is None else f"{100 * figures['top1']:.2f}"
        rows.append(
            {"budget": budget, "grid": str(grid), "selection": selection, "top1": top1, "gmacs": figures["gmacs"]}
        )
    unreadable = evaluation.get("unreadable")
    return {
        "dataset": dataset_name(evaluation),
        "revision": evaluation.get("revision"),
        "split": evaluation["split"],
        "num_videos": evaluation["num_videos"],
        "date": evaluation.get("date"),
        "versions": ", ".join(f"{name} {version}" for name, version in evaluation.get("versions", {}).items()),
        "unreadable": None if unreadable is None else [Path(entry["video"]).name for entry in unreadable],
        "rows": rows,
    }


def _results(evaluation: dict) -> list[EvalResult]:
    name = dataset_name(evaluation)
    return [
        EvalResult(
            task_type="video-classification",
            task_name="Video classification",
            dataset_type=evaluation["dataset"] if is_hub_id(evaluation["dataset"]) else name,
            dataset_name=name,
            dataset_split=printable(evaluation["split"]),
            dataset_revision=evaluation.get("revision"),
            metric_type="accuracy",
            metric_name=f"top-1, {budget}{' tokens' * (budget != AUTO)} of {as_grid(figures['grid'])}",
            metric_value=round(100 * figures["top1"], 2),
        )
        for budget, figures in _by_budget(evaluation)
        if figures["top1"] is not None
    ]


def _by_budget(evaluation: dict) -> list[tuple[int | str, dict]]:
    """(budget, figures), the largest first and "auto" last."""
    figures = dict(evaluation["budgets"])
    auto = [(AUTO, figures.pop(AUTO))] if AUTO in figures else []
    return sorted(((int(budget), each) for budget, each in figures.items()), reverse=True) + auto


def dataset_name(evaluation: dict) -> str:
    """The Hub id, or the last part of a folder's path: where it lies on a disk is nobody's business."""
    dataset = str(evaluation["dataset"])
    return dataset if is_hub_id(dataset) else printable(Path(dataset).name)


def is_hub_id(name) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def _training(path: Path) -> dict | None:
    state = _json(path)
    if state is None:
        return None
    evaluated = [entry for entry in state.get("log_history", []) if any(key.startswith("eval_") for key in entry)]
    measured = {key: value for key, value in (evaluated[-1] if evaluated else {}).items() if key.startswith("eval_")}
    chosen = {key: value for key, value in measured.items() if not re.search("runtime|per_second", key)}
    last = ", ".join(f"{key} {value:.4g}" for key, value in chosen.items())
    return {"steps": state["global_step"], "epochs": state.get("epoch") or 0.0, "last": last}


def _json(path: Path) -> dict | None:
    return read_json(path) if path.is_file() else None
