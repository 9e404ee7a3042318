"""Small data sets of real video files in the layouts that data sets come in."""

import io
import json
import tarfile
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Video

from flux_hf.data.video_column import without_torchcodec
from tests.video_files import encode_video

CLASSES = ["jumping", "playing a flute", "running"]


def write_video(path: Path, number: int, **options) -> Path:
    """A video of 30 frames, 64 x 48 pixels, whose frames show numbers from 100 * `number` on."""
    from tests.video_files import number_picture

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webm":
        options = {"container": "webm", "codec": "libvpx", "options": {"deadline": "realtime"}} | options
    picture = lambda frame, height, width: number_picture(100 * number + frame, height, width)  # noqa: E731
    path.write_bytes(encode_video(**{"num_frames": 30, "height": 48, "width": 64, "picture": picture} | options))
    return path


def kinetics(folder: Path, counts: dict[str, int]) -> Path:
    """`{split}.csv` with "path label" lines, and labels.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for split, count in counts.items():
        lines = []
        for number in range(count):
            path = write_video(folder / split / f"clip {number}.mp4", number)
            lines.append(f"{path.relative_to(folder)} {number % len(CLASSES)}\n")
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


def ssv2(folder: Path, counts: dict[str, int]) -> Path:
    """The JSON lists of Something-Something v2 and webm files named by their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = [
        "Holding [something]",
        "Moving [something] and [something] closer to each other",
        "Pushing [something]",
    ]
    labels = {template.replace("[", "").replace("]", ""): str(i) for i, template in enumerate(templates)}
    (folder / "something-something-v2-labels.json").write_text(json.dumps(labels))
    for offset, (split, count) in enumerate(counts.items()):
        rows = []
        for number in range(count):
            key = str(1000 * (offset + 1) + number)
            write_video(folder / f"{key}.webm", number)
            template = templates[number % 3]
            rows.append({"id": key, "label": template.replace("[something]", "a cup"), "template": template})
        (folder / f"something-something-v2-{split}.json").write_text(json.dumps(rows))
    return folder


def coin(folder: Path, counts: dict[str, int]) -> Path:
    """COIN.json and videos in a folder of their recipe type; each counts from 0.4 s to 0.8 s (frames 10 to 20)."""
    database = {}
    for split, count in counts.items():
        for number in range(count):
            key = f"{split}{number:03}"
            kind = number % len(CLASSES)
            write_video(folder / "videos" / str(kind) / f"{key}.mp4", number)
            database[key] = {
                "class": CLASSES[kind],
                "recipe_type": kind,
                "subset": "training" if split == "train" else "testing",
                "duration": 1.2,
                "start": 0.4,
                "end": 0.8,
                "annotation": [{"id": "1", "segment": [0.4, 0.6], "label": "a step"}],
            }
    (folder / "COIN.json").write_text(json.dumps({"database": database}))
    return folder


def videofolder(folder: Path, counts: dict[str, int]) -> Path:
    """split/label/clip.mp4"""
    for split, count in counts.items():
        for number in range(count):
            write_video(folder / split / CLASSES[number % len(CLASSES)] / f"{number}.mp4", number)
    return folder


def parquet(folder: Path, counts: dict[str, int]) -> Path:
    """Parquet files that hold the videos."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        videos = []
        for number in range(count):
            path = write_video(folder.parent / f"{split}{number}.mp4", number)
            videos.append({"bytes": path.read_bytes(), "path": path.name})
            path.unlink()
        labels = [number % len(CLASSES) for number in range(count)]
        features = Features({"video": Video(decode=False), "label": ClassLabel(names=CLASSES)})
        with without_torchcodec():
            dataset = Dataset.from_dict({"video": videos, "label": labels}, features=features)
        dataset.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def webdataset(folder: Path, counts: dict[str, int], shards: int = 2, label: str = "cls", suffix: str = "mp4") -> Path:
    """`{split}-00000.tar`, ... with videos and their labels in .cls (number), .txt (name) or .json files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        files = [tarfile.open(folder / f"{split}-{shard:05}.tar", "w") for shard in range(shards)]
        for number in range(count):
            kind = number % len(CLASSES)
            content = {"cls": str(kind), "txt": CLASSES[kind], "json": json.dumps({"label": CLASSES[kind]})}[label]
            video = write_video(folder.parent / f"one.{suffix}", number).read_bytes()
            for ending, data in ((suffix, video), (label, content.encode())):
                entry = tarfile.TarInfo(f"{number:04}.{ending}")
                entry.size = len(data)
                files[number % shards].addfile(entry, io.BytesIO(data))
        for file in files:
            file.close()
    return folder
