"""Parts of the data set that share no source film."""

import re
from pathlib import Path

import numpy as np
from datasets import Dataset

from flux_hf.provenance import video_names

FOLDS = 5
RANGES = re.compile(r"nofi(\d+) - nofi(\d+) *: *(.+)")
CLIP = re.compile(r"((?:no)?fi\d+) *:")


def source_films(text: str) -> dict[str, str]:
    """Name of a clip, without ending -> the film or collection that it was cut from, of `videos.txt`.

    An address stands above the clips of a film, and a line each names ranges of clips of two collections.
    """
    films, address = {}, None
    for line in text.splitlines():
        if line.startswith("http"):
            address = line.strip()
        elif found := RANGES.match(line):
            for number in range(int(found[1]), int(found[2]) + 1):
                films.setdefault(f"nofi{number:03d}", found[3].strip())
        elif found := CLIP.match(line):
            films[found[1]] = address
    return films


def folds(dataset: Dataset, source: Path, seed: int) -> list[np.ndarray]:
    """Indices of the test clips of each of `FOLDS` folds. A fold has about as many fights as others, and the clips of
    one source film are all in one fold; a clip of which `videos.txt` says nothing counts as a film of its own."""
    from sklearn.model_selection import StratifiedGroupKFold

    films = source_films((source / "videos.txt").read_text(encoding="utf-8"))
    names = [Path(name).stem for name in video_names(dataset)]
    groups = [films.get(name, name) for name in names]
    splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(names, dataset["label"][:], groups)
    return [test for _, test in splits]
