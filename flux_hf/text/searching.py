"""Searching an index for a sentence, or for videos like one."""

from pathlib import Path

import numpy as np

from flux_hf.processing.views_fluxvit import Views
from flux_hf.text.embedding import embed_texts, embed_videos, embedding_of
from flux_hf.text.index import Found, check_has_budget, read_origin, search_index, weights_hash
from flux_hf.text.loading import check_is_clip, load_clip, load_clip_processor, load_text_tower
from flux_hf.text.videos import videos_at


def search(
    index: str | Path,
    *,
    sentence: str | None = None,
    video: str | None = None,
    top_k: int = 10,
    token_budget: int | None = None,
    checkpoint: str | Path | None = None,
) -> list[Found]:
    """The videos of an index that fit a sentence, or that are like a video, best first.

    Args:
        index: Parquet file that `flux-hf embed` wrote.
        sentence, video: what to look for, one of them; a video is a path or an address. For a sentence only the text
            tower is loaded.
        token_budget: embeddings to look at, default the first budget of the index. A video that is looked for is
            embedded at the same one, from such frames as the index.
        checkpoint: where the checkpoint is now, default as the index names it.

    Raises:
        ValueError: the sentence is empty, the checkpoint's weights are not those that made the index, the file is none,
            or it has no embeddings of the budget, or none at all.
        VideoDecodeError: the video cannot be read.
    """
    if (sentence is None) == (video is None):
        raise ValueError(f"give a sentence or a video, one of them, got sentence={sentence!r} and video={video!r}")
    if sentence is not None and not sentence.strip():
        raise ValueError(f"a sentence needs a word at least, got {sentence!r}")
    origin = read_origin(index)
    checkpoint = checkpoint or origin.checkpoint
    budget = origin.token_budgets[0] if token_budget is None else token_budget
    check_has_budget(index, origin, budget)
    check_is_clip(checkpoint)
    if weights_hash(checkpoint) != origin.weights:
        raise ValueError(
            f"{checkpoint}: its weights are not those of {origin.checkpoint} that made {index}: embed the "
            "videos again with it, or name the checkpoint that made the index"
        )
    if sentence is not None:
        (query,) = embed_texts(load_text_tower(checkpoint), load_clip_processor(checkpoint), [sentence])
    else:
        query = _video_query(video, *load_clip(checkpoint, decoding=origin.decoding), budget)
    return search_index(index, query, budget, top_k)


def _video_query(video: str, model, processor, token_budget: int) -> np.ndarray:
    options = {"batch_size": 1, "num_workers": 0}
    (record,) = embed_videos(
        videos_at([video]), [0], model, processor.video_processor, [token_budget], Views(), **options
    )
    if "reason" in record:
        raise ValueError(record["reason"])
    return embedding_of(record["arms"][0])
