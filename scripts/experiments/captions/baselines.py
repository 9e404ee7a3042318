"""How hard the clips of the experiment are: a logistic regression for each fact, on thumbnails of one or three frames.

These are told the four facts of every training clip, not a sentence. A sentence's score is the sum of the logarithms of
its facts' probabilities; the tests are those of compare.py.

python scripts/experiments/captions/baselines.py --work_dir runs/captions
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.captions.clips import FRAMES, SPLITS, make_clips
from flux_hf.scripts.experiments.captions.compare import GALLERY, CaptionOptions, decoded, read_facts, share_of_pairs
from flux_hf.scripts.experiments.captions.words import COLOURS, MOTIONS, SHAPES, SPEEDS, Facts
from flux_hf.text.captioned_clips import CachedPairs
from flux_hf.text.pairs import load_pairs

COMMAND = "scripts/experiments/captions/baselines.py"
RESULTS = Path(__file__).parent / "baselines.json"
FRAMES_SEEN = {"one frame": (FRAMES // 2,), "three frames": (0, FRAMES // 2, FRAMES - 1)}
THUMBNAIL = 12
VALUES = {"motion": tuple(MOTIONS), "shape": SHAPES, "colour": COLOURS, "speed": tuple(SPEEDS)}


@dataclass
class BaselineOptions:
    work_dir: str = field(metadata={"help": "That of compare.py."})
    clips: int = field(default=CaptionOptions.clips, metadata={"help": "Training clips."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BaselineOptions, argv, __doc__)
    torch.set_num_threads(1)
    work = Path(options.work_dir)
    folder = make_clips(work / f"clips_{options.clips}", train=options.clips)
    pairs = {split: load_pairs(folder, split) for split in (SPLITS[0], SPLITS[-1])}
    (clips, said), (test_clips, test_said) = (
        (decoded(of_split, work), read_facts(folder, split)) for split, of_split in pairs.items()
    )
    rows = []
    for name, frames in FRAMES_SEEN.items():
        began = time.process_time()
        scores = fact_scores(thumbnails(clips, frames), said, thumbnails(test_clips, frames))
        seconds = round(time.process_time() - began, 1)
        rows.append({"sees": name, "cpu_seconds": seconds, **figures(scores, test_said)})
        print(rows[-1])
    result = provenance(f"python {COMMAND}", argv, "scikit-learn")
    write_json(options.output, result | {"test_files": file_list_hash(pairs[SPLITS[-1]]), "rows": rows})


def thumbnails(clips: CachedPairs, frames: Sequence[int]) -> np.ndarray:
    """Frames of these numbers in colour, 12 x 12 pixels each: float32 (clips, values), 0 to 1."""
    shown = [torch.as_tensor(np.asarray(clip)[list(frames)]).permute(0, 3, 1, 2).float() for clip in clips.clips]
    return np.stack([(adaptive_avg_pool2d(clip, THUMBNAIL) / 255).flatten().numpy() for clip in shown])


def fact_scores(train: np.ndarray, facts: Sequence[Facts], test: np.ndarray) -> dict[str, np.ndarray]:
    """Logarithms of the probabilities of every value of every fact: name -> (test clips, values)."""
    from sklearn.linear_model import LogisticRegression

    found = {}
    for name, values in VALUES.items():
        labels = [values.index(getattr(fact, name)) for fact in facts]
        found[name] = LogisticRegression(max_iter=1000).fit(train, labels).predict_log_proba(test)
    return found


def figures(scores: dict[str, np.ndarray], facts: Sequence[Facts]) -> dict:
    """Those of compare.py: `unseen` and `seen`, `text_to_video` and `video_to_text`, `opposites`."""
    right = {name: np.array([VALUES[name].index(getattr(fact, name)) for fact in facts]) for name in VALUES}
    both = np.logical_and(*(scores[name].argmax(1) == right[name] for name in ("motion", "colour")))
    unseen = np.array([fact.held_out for fact in facts])
    # Row: clip, column: sentence of a gallery's clip.
    sums = sum(scores[name][:GALLERY][:, right[name][:GALLERY]] for name in VALUES)
    others = np.array([VALUES["motion"].index(fact.opposite().motion) for fact in facts])
    every = np.arange(len(facts))
    nearer = scores["motion"][every, right["motion"]] > scores["motion"][every, others]
    return {
        "text_to_video": float((sums.argmax(0) == np.arange(GALLERY)).mean()),
        "video_to_text": float((sums.argmax(1) == np.arange(GALLERY)).mean()),
        "unseen": float(both[unseen].mean()),
        "seen": float(both[~unseen].mean()),
        "facts": {name: float((scores[name].argmax(1) == right[name])[unseen].mean()) for name in VALUES},
        "opposites": share_of_pairs(nearer, facts),
    }


if __name__ == "__main__":
    run_command(COMMAND, main)
