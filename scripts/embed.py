"""Write embeddings of videos to a Parquet file that flux-hf search looks in.

flux-hf embed my/videos --checkpoint runs/aligned --output videos.parquet
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import (
    check_at_least,
    check_checkpoints,
    check_each_once,
    check_output,
    check_paths,
    decoding_option,
    decoding_setting,
    dtype_option,
    naming_option,
    naming_split,
    parse_options,
)
from flux_hf.tables import printable


@dataclass
class EmbedOptions:
    dataset: str = field(
        metadata={
            "help": "Folder, of which every video below it is meant; list file (.txt with a path or address a line, or "
            "one of pairs); with --split a data set: folder or id on the Hub."
        }
    )
    checkpoint: str = field(metadata={"help": "Folder or Hub id of a FluxViT with a text tower."})
    output: str = field(
        metadata={
            "help": "Parquet file to write. Until it is whole what is done is in the folder of that name with the "
            "ending .videos, from which an interrupted run goes on."
        }
    )
    split: str | None = field(default=None, metadata={"help": "Split, where the videos are a data set."})
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Token budgets, each an embedding. Default: the largest of the video tower."}
    )
    decoding: str | None = decoding_option("Frames")
    dtype: str | None = dtype_option()
    batch_size: int = field(default=32, metadata={"help": "Clips per forward."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside each main one."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(EmbedOptions, argv, __doc__, {"dataset": "VIDEOS"})
    check_at_least(1, options, "token_budgets", "batch_size")
    check_at_least(0, options, "num_workers")
    check_each_once(options, "token_budgets")
    check_paths(options, "video_root")
    check_output(options, ".parquet")
    output = Path(options.output)
    from flux_hf.evaluation.processes import complete_records, open_records, process_state
    from flux_hf.processing.views_fluxvit import Views, check_processor
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.provenance import file_list_hash
    from flux_hf.runtime import set_dtype
    from flux_hf.text.embedding import embed_videos
    from flux_hf.text.index import IndexOrigin, weights_hash, write_index
    from flux_hf.text.loading import load_clip
    from flux_hf.text.videos import load_videos

    check_checkpoints(checkpoint=options.checkpoint)
    state = process_state()
    with no_bars_for_folders(options.dataset), naming_split(options, "split"):
        dataset = load_videos(options.dataset, options.split, video_root=options.video_root)
    with no_bars_for_folders(options.checkpoint), naming_option("checkpoint", options.checkpoint):
        model, processor = load_clip(options.checkpoint, **decoding_setting(options))
        weights = weights_hash(options.checkpoint)
    model, processor = model.to(state.device), processor.video_processor
    check_processor(processor, Views())
    budgets = options.token_budgets or model.token_budgets[:1]
    dtype = set_dtype(model, options.dtype, batch_size=options.batch_size)
    settings = {
        "files": file_list_hash(dataset),
        "weights": weights,
        "processor": processor.to_dict(),
        "token_budgets": budgets,
        "dtype": str(dtype),
    }
    folder, done = open_records(output.with_suffix(".videos"), settings)
    shared = {"batch_size": options.batch_size, "num_workers": options.num_workers}
    records, speed = complete_records(
        list(range(len(dataset))),
        done,
        lambda rows: embed_videos(dataset, rows, model, processor, budgets, Views(), **shared),
        folder,
        "embedding",
    )
    if state.is_main_process:
        origin = IndexOrigin(options.checkpoint, weights, model.config.projection_dim, budgets, processor.decoding)
        write_index(output, dataset, records, origin)
        shutil.rmtree(folder.folder)
        unreadable = [record["reason"] for record in records if "reason" in record]
        for reason in unreadable:
            print(f"unreadable: {printable(reason, None)}", file=sys.stderr)
        print(
            f"{len(records) - len(unreadable)} videos at {', '.join(map(str, budgets))} tokens, {len(unreadable)} "
            f"unreadable, {speed['seconds']:.1f} s; written: {output}"
        )
    state.wait_for_everyone()


if __name__ == "__main__":
    run_command("flux-hf embed", main)
