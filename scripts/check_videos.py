"""Decode all videos of a data set in parallel and list those that are unreadable or damaged."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import check_at_least, check_paths, naming_split, parse_options


@dataclass
class CheckOptions:
    dataset: str = field(metadata={"help": "Folder or id of a data set on the Hub, as for finetune."})
    split: str = field(default="train", metadata={"help": "Split to check."})
    video_root: str | None = field(default=None, metadata={"help": "Folder of the videos of a list file."})
    labels_file: str | None = field(default=None, metadata={"help": "File with the names of the labels."})
    all_frames: bool = field(default=False, metadata={"help": "Decode every frame instead of 16 of each video."})
    num_workers: int | None = field(default=None, metadata={"help": "Decoding processes. Default: one per core."})
    output: str = field(
        default="bad_videos.csv",
        metadata={"help": "File to write, unless all are fine: row, video, reason, damaged frames of each."},
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(CheckOptions, argv, __doc__)
    check_at_least(1, options, "num_workers")
    check_paths(options, "video_root", "labels_file")
    from flux_hf.data import load_video_dataset
    from flux_hf.data.checking import check_videos, write_bad_videos

    with naming_split(options, "split"):
        dataset = load_video_dataset(
            options.dataset, options.split, video_root=options.video_root, label_names=options.labels_file
        )
    bad = check_videos(dataset, num_frames=None if options.all_frames else 16, num_workers=options.num_workers)
    if bad or Path(options.output).exists():  # a list of an earlier run would be wrong
        write_bad_videos(bad, options.output)
    if bad:
        damaged = sum(video.replaced_frames > 0 for video in bad)
        counts = f"{len(bad) - damaged} of {len(dataset)} videos cannot be read, {damaged} have damaged frames"
        print(f"{counts}; listed in {options.output}")
    else:
        print(f"All {len(dataset)} videos of the split {options.split} can be read.")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    run_command("flux-hf check-videos", main)
