"""The command that lists the videos of a data set that cannot be read."""

import csv

import pytest

from flux_hf.scripts.check_videos import main
from tests import video_datasets


def check(folder, output, *options) -> tuple[int, list[dict]]:
    with pytest.raises(SystemExit) as stop:
        main(["--dataset", str(folder), "--num_workers", "1", "--output", str(output), *options])
    with open(output, newline="") as file:
        return stop.value.code, list(csv.DictReader(file))


def test_bad_videos_are_listed_with_row_and_reason(tmp_path, capsys):
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 10})
    (folder / "train" / "clip 4.mp4").write_bytes(b"no video at all")
    (folder / "train" / "clip 9.mp4").unlink()
    code, rows = check(folder, tmp_path / "bad.csv")
    assert code == 1
    assert [row["row"] for row in rows] == ["4", "9"]
    assert rows[0]["video"].endswith("clip 4.mp4")
    assert rows[0]["reason"]
    assert "no such file" in rows[1]["reason"]
    assert "2 of 10 videos cannot be read" in capsys.readouterr().out


def test_nothing_bad(tmp_path, capsys):
    folder = video_datasets.coin(tmp_path / "set", {"train": 2})
    command = ["--dataset", str(folder), "--num_workers", "1", "--all_frames", "--output", str(tmp_path / "bad.csv")]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 0 and not (tmp_path / "bad.csv").exists()
    assert capsys.readouterr().out == "All 2 videos of the split train can be read.\n"
    (tmp_path / "bad.csv").write_text("row,video,reason\n1,a.mp4,broken\n")  # of an earlier run
    assert check(folder, tmp_path / "bad.csv") == (0, [])
