"""Retrieval at several budgets, from the files to the figures: any number of processes, resumable."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from flux_hf.evaluation.accuracy import grid_figures, scored_videos
from flux_hf.evaluation.processes import complete_records, open_records
from flux_hf.evaluation.report import counted
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.processing.grid_fluxvit import as_grid
from flux_hf.processing.views_fluxvit import Views, check_processor
from flux_hf.provenance import file_list_hash, model_hash
from flux_hf.tables import markdown, percent, table
from flux_hf.text.embedding import embed_texts, embed_videos, embedding_of, truncated_texts
from flux_hf.text.retrieval import RECALLS, retrieval_figures

MATCHES = ("pair", "text")


def evaluate_retrieval(
    dataset: Dataset,
    model: FluxViTClipModel,
    processor,
    token_budgets: list[int],
    *,
    match: str = "pair",
    max_text_tokens: int | None = None,
    num_clips: int = 1,
    num_crops: int = 1,
    clip_sampling: str = "middles",
    batch_size: int = 32,
    num_workers: int = 0,
    records_dir: str | Path | None = None,
) -> dict:
    """Text-video retrieval at every budget, both ways, by the protocol of `flux_hf.text.retrieval`.

    Args:
        dataset: as `load_pairs` returns it, every video once with all its captions.
        processor: the model's `FluxViTClipProcessor`.
        token_budgets: budgets, on the grids the video processor chooses. One decoding of a video serves all of them.
        match: "pair": only the video that a caption belongs to is right. "text": so is every video with the same
            sentence, for sets that say the same of several videos.
        max_text_tokens: tokens after which a caption is cut, at most what the text tower can read; default the
            processor's own (32, unless it was saved with another length).
        num_clips, num_crops, clip_sampling, batch_size, num_workers, records_dir: as of `flux_hf.evaluation.evaluate`.
            The embedding of a video is the mean of its views'.

    Returns:
        `num_videos`, `num_texts`, `repeated_texts` (how many say the same as an earlier one), `truncated_texts` (how
        many lost words), `unreadable`, `damaged` (as of `evaluate`; an unreadable video and its captions are on neither
        side), `files` (`file_list_hash`), `model` (sha256 of the weights), `match`, `max_text_tokens`, `views`,
        `decoding`, `speed` and `budgets`: for each budget `grid`, `grids_used`, `gmacs`, `gmacs_x_views` and what
        `retrieval_figures` gives.

    Raises:
        ValueError: a setting is not accepted, or `records_dir` holds results of other settings.
    """
    if len(set(token_budgets)) < len(token_budgets) or not token_budgets:
        raise ValueError(f"token_budgets must name at least one budget, each once, got {list(token_budgets)}")
    if match not in MATCHES:
        raise ValueError(f"match must be one of {', '.join(MATCHES)}, got {match!r}")
    if max_text_tokens is not None:
        model.config.check_text_length(max_text_tokens)
    views, video_processor = Views(num_clips, num_crops, clip_sampling), processor.video_processor
    check_processor(video_processor, views)
    settings = {
        "files": file_list_hash(dataset),
        "model": model_hash(model),
        "processor": video_processor.to_dict(),
        "token_budgets": list(token_budgets),
        "views": vars(views),
    }
    folder, done = open_records(records_dir, settings)
    options = {"batch_size": batch_size, "num_workers": num_workers}
    records, speed = complete_records(
        list(range(len(dataset))),
        done,
        lambda rows: embed_videos(dataset, rows, model, video_processor, token_budgets, views, **options),
        folder,
    )
    scored, videos = scored_videos(records, dataset)
    captions = dataset["captions"][:]
    texts = [text for record in scored for text in captions[record["row"]]]
    owners = [place for place, record in enumerate(scored) for _ in captions[record["row"]]]
    text_embeds = embed_texts(model, processor, texts, max_tokens=max_text_tokens)
    budgets = {}
    for place, budget in enumerate(token_budgets):
        answers = [record["arms"][place] for record in scored]
        video_embeds = np.array([embedding_of(answer) for answer in answers], np.float32)
        budgets[budget] = grid_figures(answers, budget, model, video_processor, views) | retrieval_figures(
            text_embeds,
            video_embeds.reshape(len(scored), text_embeds.shape[1]),
            owners,
            logit_scale=float(model.get_scale().detach()),
            texts=texts if match == "text" else None,
        )
    return {
        **videos,
        "num_texts": len(texts),
        "repeated_texts": len(texts) - len(set(texts)),
        "truncated_texts": truncated_texts(processor, texts, max_text_tokens),
        "files": settings["files"],
        "model": settings["model"],
        "match": match,
        "max_text_tokens": max_text_tokens,
        "views": vars(views),
        "decoding": video_processor.decoding,
        "speed": speed,
        "budgets": budgets,
    }


def with_paragraphs(dataset: Dataset) -> Dataset:
    """Every video with one caption: all of its captions in their order, as DiDeMo and ActivityNet are searched."""
    captions, feature = [[" ".join(texts)] for texts in dataset["captions"][:]], dataset.features["captions"]
    return dataset.remove_columns("captions").add_column("captions", captions, feature=feature)


def markdown_table(result: dict) -> str:
    """Two rows a budget and direction, without and with dual softmax; recalls in percent. Above it what was searched,
    below it what chance gives."""
    rows = []
    for budget, found in result["budgets"].items():
        for direction in ("text_to_video", "video_to_text"):
            for how, figures in (("", found[direction]), ("dual softmax", found["dual_softmax"][direction])):
                rows.append([budget, as_grid(found["grid"]), direction.replace("_", " "), how, *_cells(figures)])
    head = ["tokens", "grid", "direction", "", "R@1 (95 % interval)", "R@5", "R@10", "median rank", "mean rank"]
    split = f"split {markdown(result['split'])}: " if "split" in result else ""
    cut = f", {result['truncated_texts']} cut" if result["truncated_texts"] else ""
    damaged = f"{len(result['damaged'])} with damaged frames, " if result["damaged"] else ""
    views = result["views"]
    return (
        f"{split}{counted(result['num_videos'], 'video')}, {counted(result['num_texts'], 'text')} "
        f"({result['repeated_texts']} of them said before{cut}, match {result['match']}), "
        f"{len(result['unreadable'])} unreadable, {damaged}{counted(views['num_clips'], 'clip')} x "
        f"{counted(views['num_crops'], 'crop')}, file list {result['files'][:12]}\n\n"
        f"{table(head, rows, 'rrllrrrrr')}\n\n{_chance(result)}\n"
    )


def _cells(figures: dict) -> list[str]:
    if figures["r1"] is None:
        return ["–"] * 5
    low, high = figures["r1_interval"]
    return [
        f"{percent(figures['r1'])} ({percent(low)}–{percent(high)})",
        *(percent(figures[f"r{k}"]) for k in RECALLS[1:]),
        f"{figures['median_rank']:g}",
        f"{figures['mean_rank']:.1f}",
    ]


def _chance(result: dict) -> str:
    found = next(iter(result["budgets"].values()))
    parts = []
    for direction in ("text_to_video", "video_to_text"):
        chance = found[direction]["chance"]
        known = [f"R@{k} {percent(chance[f'r{k}'])}" for k in RECALLS if chance[f"r{k}"] is not None]
        if known:
            parts.append(f"{direction.replace('_', ' ')} {', '.join(known)}")
    return f"Chance: {'; '.join(parts)}." if parts else "No video could be read."
