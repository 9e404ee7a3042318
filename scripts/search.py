"""Find videos for a sentence, or like a video, in a file that flux-hf embed wrote.

flux-hf search "a red ball moves to the left" --index videos.parquet
"""

from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.options import check_at_least, check_checkpoints, check_paths, naming_option, parse_options
from flux_hf.tables import printable


@dataclass
class SearchOptions:
    index: str = field(metadata={"help": "Parquet file that flux-hf embed wrote."})
    sentence: str | None = field(default=None, metadata={"help": "What to look for."})
    video: str | None = field(default=None, metadata={"help": "Path or address: look for videos like this one."})
    top_k: int = field(default=10, metadata={"help": "Videos to print."})
    token_budget: int | None = field(
        default=None, metadata={"help": "Embeddings to look at, where the file has several. Default: its first."}
    )
    checkpoint: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub id, where it moved. Default: the one that made the file; no other fits."},
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(SearchOptions, argv, __doc__, {"sentence": "SENTENCE"})
    check_at_least(1, options, "top_k", "token_budget")
    check_paths(options, "index")
    if (options.sentence is None) == (options.video is None):
        raise ValueError('give a SENTENCE, in quotes, or --video FILE, one of them: flux-hf search "a dog" --index ...')
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.text.index import read_origin
    from flux_hf.text.loading import check_is_clip
    from flux_hf.text.searching import search

    checkpoint = options.checkpoint or read_origin(options.index).checkpoint
    check_checkpoints(checkpoint=checkpoint)
    with naming_option("checkpoint", checkpoint):
        check_is_clip(checkpoint)
    with no_bars_for_folders(checkpoint):
        found = search(
            options.index,
            sentence=options.sentence,
            video=options.video,
            top_k=options.top_k,
            token_budget=options.token_budget,
            checkpoint=checkpoint,
        )
    for video in found:
        times = (
            "" if video.start is None and video.end is None else f"  {_seconds(video.start)}–{_seconds(video.end)} s"
        )
        print(f"{video.score:6.3f}  {printable(video.path, None)}{times}")


def _seconds(time: float | None) -> str:
    return "" if time is None else f"{time:g}"


if __name__ == "__main__":
    run_command("flux-hf search", main)
