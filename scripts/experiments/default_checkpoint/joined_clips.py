"""Join data sets of clips into one, by links.

python scripts/experiments/default_checkpoint/joined_clips.py --data data/motion data/motion_3d --output_dir data/joined

Every data set is in videofolder layout (SPLIT/LABEL/clip), all with the same labels. A clip of `data/motion` becomes
SPLIT/LABEL/motion_clip. What is there already stays.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import parse_options

COMMAND = "scripts/experiments/default_checkpoint/joined_clips.py"


@dataclass
class JoinedClipsOptions:
    data: list[str] = field(metadata={"help": "Folders of the data sets, of different names."})
    output_dir: str = field(metadata={"help": "Folder of the links."})
    splits: list[str] = field(default_factory=lambda: ["train", "validation"], metadata={"help": "Splits to join."})


def join_clips(folders: list[Path], output: Path, splits: list[str]) -> int:
    """Link every clip of the splits; returns how many there are.

    Raises:
        ValueError: a data set has no such split, other labels than the first, or the name of another.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"--data: the folders must have different names, got {', '.join(names)}")
    count = 0
    for split in splits:
        labels = None
        for name, folder in zip(names, folders, strict=True):
            found = sorted(path for path in (folder / split).glob("*") if path.is_dir())
            labels = labels or [path.name for path in found]
            if not labels or [path.name for path in found] != labels:
                raise ValueError(f"--data: {folder / split} has the labels {[p.name for p in found]}, not {labels}")
            for clip in (clip for path in found for clip in sorted(path.iterdir())):
                link = output / split / clip.parent.name / f"{name}_{clip.name}"
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(clip.resolve())
                count += 1
    return count


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(JoinedClipsOptions, argv, __doc__)
    count = join_clips([Path(folder) for folder in options.data], Path(options.output_dir), options.splits)
    print(f"{count} clips in {options.output_dir}")


if __name__ == "__main__":
    run_command(COMMAND, main)
