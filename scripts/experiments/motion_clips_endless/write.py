"""Write composed clips as files, as many of each label, for what does not train on tensors.

python scripts/experiments/motion_clips_endless/write.py --output_dir data/motion_endless

A data set in videofolder layout with the split `train`; the first clips of a larger one are those of a smaller one.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import claim_folder
from flux_hf.options import check_at_least, parse_options
from flux_hf.scripts.experiments.motion_clips_endless.clips import LABELS, compose
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.layers import make_banks
from flux_hf.scripts.experiments.motion_clips_pictures.encoding import Encoding, write_clip

COMMAND = "scripts/experiments/motion_clips_endless/write.py"
NEARLY_LOSSLESS = Encoding("h264", 12, 16)
FRAMES, FRAME_RATE = 16, 8
BATCH = 16


@dataclass
class WriteOptions:
    output_dir: str = field(metadata={"help": "Folder of the data set."})
    clips: int = field(default=450, metadata={"help": "Clips, a multiple of 9."})
    side: int = field(default=128, metadata={"help": "Of the frames, in pixels, a multiple of 16."})
    textures: int = field(default=1024, metadata={"help": "Textures and silhouettes that clips are made of."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(WriteOptions, argv, __doc__)
    check_at_least(1, options, "clips", "textures")
    for name, unit in (("clips", len(LABELS)), ("side", 16)):
        if (value := getattr(options, name)) % unit or value < unit:
            raise ValueError(f"--{name} must be a multiple of {unit}, got {value}")
    settings = {name: value for name, value in vars(options).items() if name not in ("output_dir", "clips")}
    folder = claim_folder(options.output_dir, settings, "dataset.json")
    dice = Dice(seed=options.seed)
    banks, written, most = make_banks(options.textures, dice), Counter(), options.clips // len(LABELS)
    while written.total() < options.clips:
        clips, labels = compose(BATCH, banks, dice, frames=FRAMES, side=options.side)
        frames = (clips * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
        for clip, label in zip(frames, (LABELS[number] for number in labels), strict=True):
            if written[label] < most:
                path = Path(folder, "train", label, f"{written[label]:05d}.mp4")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_clip(path, clip, [NEARLY_LOSSLESS], FRAME_RATE)
                written[label] += 1
    print(f"{options.clips} clips in {folder}")


if __name__ == "__main__":
    run_command(COMMAND, main)
