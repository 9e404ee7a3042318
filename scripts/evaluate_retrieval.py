"""Measure text-video retrieval of a checkpoint at several token budgets.

flux-hf evaluate-retrieval --dataset MSRVTT_JSFUSION_test.csv --video_root MSRVTT/videos --checkpoint runs/aligned
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json, write_text
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
class EvaluateRetrievalOptions:
    dataset: str = field(
        metadata={
            "help": "List file (the lists of MSRVTT-1kA, MSVD, DiDeMo, LSMDC and ActivityNet, CSV, JSON), folder with "
            "metadata.csv or metadata.jsonl, or id of a data set on the Hub."
        }
    )
    checkpoint: str = field(metadata={"help": "Folder or Hub id of a FluxViT with a text tower."})
    split: str = field(default="test", metadata={"help": "Split of the data set; a list file is one as it is."})
    caption_column: str | None = field(
        default=None, metadata={"help": "Column of the captions. Default: caption, text, sentence, ..."}
    )
    paragraphs: bool = field(
        default=False,
        metadata={"help": "Join all captions of a video to one, as DiDeMo and ActivityNet are searched."},
    )
    match: str = field(
        default="pair",
        metadata={
            "help": "What is right: the video that a caption belongs to (pair, the protocols), or every one with the "
            "same sentence (text).",
            "choices": ("pair", "text"),
        },
    )
    max_text_tokens: int | None = field(
        default=None, metadata={"help": "Tokens after which a caption is cut. Default: the checkpoint's, mostly 32."}
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Token budgets. Default: those of the video tower."}
    )
    num_clips: int = field(default=1, metadata={"help": "Temporal clips, whose embeddings are averaged."})
    num_crops: int = field(default=1, metadata={"help": "Crops along the longer side."})
    decoding: str | None = decoding_option("Frames of one clip (several are exact)")
    dtype: str | None = dtype_option()
    batch_size: int = field(default=32, metadata={"help": "Views per forward."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside each main one."})
    output: str | None = field(
        default=None,
        metadata={
            "help": "JSON file to write, with a table (.md) beside it and embeddings per video in the folder of that "
            "name with the ending .videos, from which an interrupted run goes on."
        },
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(EvaluateRetrievalOptions, argv, __doc__)
    check_at_least(1, options, "token_budgets", "num_clips", "num_crops", "batch_size", "max_text_tokens")
    check_at_least(0, options, "num_workers")
    check_each_once(options, "token_budgets")
    check_paths(options, "video_root")
    check_output(options, ".json")
    output = Path(options.output) if options.output else None
    from flux_hf.evaluation.processes import process_state
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.provenance import provenance
    from flux_hf.runtime import set_dtype
    from flux_hf.text.loading import load_clip
    from flux_hf.text.pairs import load_pairs
    from flux_hf.text.retrieval_evaluation import evaluate_retrieval, markdown_table, with_paragraphs

    check_checkpoints(checkpoint=options.checkpoint)
    state = process_state()
    with no_bars_for_folders(options.dataset), naming_split(options, "split"):
        dataset = load_pairs(
            options.dataset, options.split, caption_column=options.caption_column, video_root=options.video_root
        )
    if options.paragraphs:
        dataset = with_paragraphs(dataset)
    with no_bars_for_folders(options.checkpoint), naming_option("checkpoint", options.checkpoint):
        model, processor = load_clip(options.checkpoint, **decoding_setting(options))
    set_dtype(model.to(state.device), options.dtype, batch_size=options.batch_size)
    result = evaluate_retrieval(
        dataset,
        model,
        processor,
        options.token_budgets or model.token_budgets,
        match=options.match,
        max_text_tokens=options.max_text_tokens,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        records_dir=output.with_suffix(".videos") if output else None,
    )
    if state.is_main_process:
        split = {} if Path(options.dataset).is_file() else {"split": options.split}
        result |= {"dataset": options.dataset, **split, "checkpoint": options.checkpoint}
        result |= {"paragraphs": options.paragraphs, "dtype": str(model.dtype).removeprefix("torch.")}
        print(markdown_table(result))
        for entry in result["unreadable"]:
            print(f"unreadable: {printable(entry['reason'], None)}", file=sys.stderr)
        if output:
            write_json(output, result | provenance("flux-hf evaluate-retrieval", argv))
            write_text(output.with_suffix(".md"), markdown_table(result))
            print(f"written: {output}, {output.with_suffix('.md')}, {output.with_suffix('.videos')}")
    state.wait_for_everyone()


if __name__ == "__main__":
    run_command("flux-hf evaluate-retrieval", main)
