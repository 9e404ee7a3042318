"""Folds that share no source film, and the comparison on a few clips."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from flux_hf.files import read_json
from flux_hf.scripts.experiments.surveillance_fights import compare
from flux_hf.scripts.experiments.surveillance_fights.folds import FOLDS, folds, source_films
from flux_hf.scripts.experiments.surveillance_fights.report import accuracy_table
from tests.video_files import encode_video

LIST = """https://films.example/1
fi001: 0.13.50 - 0.15.60
nofi001: 2.34.70 - 2.37.80
https://films.example/2

fi002: 0.03 - 0.05
nofi001 - nofi004 : A Dataset
nofi004 - nofi005 : Another
"""


def test_the_source_of_a_clip_is_the_address_above_it_or_its_collection():
    assert source_films(LIST) == {
        "fi001": "https://films.example/1",
        "nofi001": "https://films.example/1",
        "fi002": "https://films.example/2",
        **{f"nofi{number:03d}": "A Dataset" for number in (2, 3, 4)},
        "nofi005": "Another",
    }


@pytest.fixture
def source(tmp_path):
    """Twenty clips of ten films, two of each, one of which `videos.txt` does not name."""
    text = []
    for number in range(1, 11):
        text.append(f"https://films.example/{number}")
        for label, short in (("fight", "fi"), ("noFight", "nofi")):
            path = tmp_path / label / f"{short}{number:03d}.mp4"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode_video(num_frames=12, height=48, width=64))
            if number < 10:
                text.append(f"{path.stem}: 0.01 - 0.03")
    (tmp_path / "videos.txt").write_text("\n".join(text))
    return tmp_path


def rows_of(source) -> Dataset:
    paths = sorted(source.glob("*/*.mp4"))
    names = ["fight", "noFight"]
    rows = {
        "video": [{"path": str(path), "bytes": None} for path in paths],
        "label": [names.index(path.parent.name) for path in paths],
    }
    video = {"path": Value("string"), "bytes": Value("binary")}
    return Dataset.from_dict(rows, features=Features({"video": video, "label": ClassLabel(names=names)}))


def test_no_film_is_in_two_folds_and_every_clip_in_one(source):
    dataset = rows_of(source)
    found = folds(dataset, source, seed=0)
    assert len(found) == FOLDS
    assert sorted(np.concatenate(found).tolist()) == list(range(len(dataset)))
    numbers = [int(row["video"]["path"][-7:-4]) for row in dataset]
    of_fold = [{numbers[place] for place in fold if numbers[place] < 10} for fold in found]
    assert sum(map(len, of_fold)) == 9


def test_simple_methods_are_tested_once_on_every_clip_and_go_on(source, tmp_path, capsys):
    output = tmp_path / "results.json"
    options = ["--source", str(source), "--cache_dir", str(tmp_path / "cache"), "--output", str(output)]
    compare.main([*options, "--methods", compare.MAJORITY])
    first = capsys.readouterr().out.splitlines()
    assert len(first) == FOLDS
    compare.main([*options, "--methods", compare.MAJORITY, compare.THUMBNAILS])
    assert [compare.THUMBNAILS in line for line in capsys.readouterr().out.splitlines()] == [True] * FOLDS
    rows = read_json(output)["rows"]
    for method in (compare.MAJORITY, compare.THUMBNAILS):
        assert sum(row["test_clips"] for row in rows if row["method"] == method) == 20
    with pytest.raises(ValueError, match="another --output"):
        compare.main([*options, "--methods", compare.MAJORITY, "--seed", "1"])


def test_the_table_puts_folds_together_and_leaves_out_what_has_not_all():
    row = {"epochs": None, "tokens": None, "steps": None, "cpu_seconds": 60.0, "test_clips": 10}
    rows = [row | {"method": "a", "fold": fold, "right": right} for fold, right in ((0, 6), (1, 10))]
    rows.append(row | {"method": "b", "fold": 0, "right": 10})
    lines = accuracy_table(rows).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| a | – | – | 80.0 (58.4–91.9) | 1.0 |")
