"""Cut clips out of real films: make.py --part development --films FOLDER --output_dir data/real_films_development.

Each part has a windows.csv and a films.csv, and the README says where the films are. They become data sets in
videofolder layout with one split, `test`, as films.csv says; a clip is called after its film, its first frame, its left
edge and its version. `--versions turned backwards` writes the clips turned clockwise by a quarter, and played
backwards, with the labels that they then have.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from flux_hf.cli import run_command
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.motion_clips_pictures.encoding import Encoding, write_clip

COMMAND = "scripts/experiments/real_films/make.py"
PARTS = ("development", "test", "second_test", "third_test")
TABLES = {part: Path(__file__).parent / part for part in PARTS}
NEARLY_LOSSLESS = Encoding("h264", 12, 249)
FILMED, TURNED, BACKWARDS, BOTH = VERSIONS = ("filmed", "turned", "backwards", "turned_backwards")
ROUND = ("moves_up", "moves_right", "moves_down", "moves_left")
"""Each becomes the next where a clip is turned clockwise by a quarter."""
BACK = {"approaches": "recedes", "turns_clockwise": "turns_counterclockwise"}
BACK |= {two: one for one, two in BACK.items()}


@dataclass(frozen=True)
class Window:
    """A square of a film: its frames `first` to `last`, counted from 0, and `size` pixels from (`left`, `top`)."""

    film: str
    first: int
    last: int
    left: int
    top: int
    size: int
    label: str

    def clip(self, version: str) -> Path:
        """Path of a version of the clip below its data set."""
        name = f"{Path(self.film).stem}-{self.first:04d}-{self.left:04d}-{version}.mp4"
        return Path("test", label_of(self.label, version), name)


@dataclass
class RealFilmOptions:
    part: str = field(
        metadata={
            "help": "Films whose failures were known, or those of the first, the second or the third test.",
            "choices": PARTS,
        }
    )
    films: str = field(metadata={"help": "Folder of the films."})
    output_dir: str = field(metadata={"help": "Folder of the data sets."})
    versions: list[str] = field(
        default_factory=lambda: [FILMED], metadata={"help": "What to write of every window.", "choices": list(VERSIONS)}
    )


def label_of(label: str, version: str) -> str:
    """What a clip of that label shows in a version of it."""
    if version in (BACKWARDS, BOTH):
        label = ROUND[ROUND.index(label) - 2] if label in ROUND else BACK.get(label, label)
    if version in (TURNED, BOTH) and label in ROUND:
        label = ROUND[ROUND.index(label) - 3]
    return label


def windows(tables: Path) -> list[Window]:
    """What the windows.csv of a folder names."""
    numbers = ("first", "last", "left", "top", "size")
    rows = _rows(tables / "windows.csv")
    return [Window(row["film"], *(int(row[name]) for name in numbers), row["label"]) for row in rows]


def cut(options: RealFilmOptions, tables: Path) -> str:
    """Write the clips that the windows.csv and films.csv of a folder name; returns a sentence about what is there.

    Raises:
        FileNotFoundError: a film is not in the folder; names it.
        ValueError: a film is another one than windows.csv was made on, or a window reaches beyond it.
    """
    found, films = windows(tables), _rows(tables / "films.csv")
    for film in films:
        path = Path(options.films, film["film"])
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; it is from {film['source']}, as the README says")
        if hashlib.sha256(path.read_bytes()).hexdigest() != film["sha256"]:
            raise ValueError(f"{path} is not the film that windows.csv was made on: its sha256 is another")
    for film in films:
        of_film = [window for window in found if window.film == film["film"]]
        rate, pictures = _read(Path(options.films, film["film"]), of_film)
        for window in of_film:
            for version in options.versions:
                path = Path(options.output_dir, film["data_set"], window.clip(version))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_clip(path, _shown(pictures[window], version), [NEARLY_LOSSLESS], rate)
    return f"{len(options.versions) * len(found)} clips of {len(films)} films in {options.output_dir}"


def _read(path: Path, of_film: list[Window]) -> tuple[Fraction, dict[Window, list[np.ndarray]]]:
    """Frames a second, and the pictures of every window."""
    pictures = {window: [] for window in of_film}
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate.limit_denominator(1001)
        for number, frame in enumerate(container.decode(video=0)):
            if inside := [window for window in of_film if window.first <= number <= window.last]:
                array = frame.to_ndarray(format="rgb24")
            for window in inside:
                size = window.size // 2 * 2  # H.264 halves the sides of its colours
                part = array[max(window.top, 0) :, max(window.left, 0) :][:size, :size]
                pictures[window].append(np.ascontiguousarray(part))
    for window, found in pictures.items():
        whole = len(found) == window.last - window.first + 1 and found[0].shape[:2] == (window.size // 2 * 2,) * 2
        if not whole or min(window.left, window.top, window.first) < 0:
            raise ValueError(
                f"{window} reaches beyond its film of {number + 1} frames of {frame.width} x {frame.height}"
            )
    return rate, pictures


def _shown(pictures: list[np.ndarray], version: str) -> Iterator[np.ndarray]:
    for picture in reversed(pictures) if version in (BACKWARDS, BOTH) else pictures:
        yield np.ascontiguousarray(np.rot90(picture, -1)) if version in (TURNED, BOTH) else picture


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(RealFilmOptions, argv, __doc__)
    print(cut(options, TABLES[options.part]))


if __name__ == "__main__":
    run_command(COMMAND, main)
