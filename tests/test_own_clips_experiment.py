"""The experiment on one's own clips, on clips so few and small that it takes seconds."""

import json

import pytest

from flux_hf import FluxViTForVideoClassification, default_checkpoint
from flux_hf.data import load_video_dataset
from flux_hf.provenance import video_names
from flux_hf.scripts.experiments.own_clips import compare, report
from tests.video_datasets import CLASSES, videofolder

CLIPS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight clips of each of three classes."""
    return videofolder(tmp_path_factory.mktemp("clips"), {"train": CLIPS * len(CLASSES)})


@pytest.fixture
def used(monkeypatch):
    """The names of the clips that each classifier was trained on and tested on, in order."""
    calls = []

    def watch(name: str, dataset_at):
        real = getattr(compare, name)

        def call(*args, **kwargs):
            calls.append((name, set(video_names(dataset_at(args, kwargs)))))
            return real(*args, **kwargs)

        monkeypatch.setattr(compare, name, call)

    watch("FluxTrainer", lambda args, kwargs: kwargs["train_dataset"])
    for name in ("fit_cnn", "fit_thumbnails", "thumbnails", "evaluate"):
        watch(name, lambda args, kwargs: args[0])
    watch("predict_cnn", lambda args, kwargs: args[1])
    return calls


@pytest.fixture
def run(folder, tmp_path):
    """Runs the command and returns the rows of its file."""
    output = tmp_path / "results.json"

    def command(*more: str) -> list[dict]:
        options = ["--data", str(folder), "--held_out", "2", "--epochs", "1", "--output", str(output)]
        compare.main([*options, "--clips", "2", "--seeds", "0", *more])
        return json.loads(output.read_text())["rows"]

    command.output = output
    return command


@pytest.mark.long
def test_rows_and_resumption(run, used, tmp_path):
    rows = run()
    flux = [(row["tokens"], row["steps"]) for row in rows if row["method"] == "flux"]
    assert sorted(flux) == [(64, 1), (128, 1), (256, 1)]
    by_method = {row["method"]: row for row in rows}
    assert by_method.keys() == {"flux", "three_frames", "thumbnails", "majority"} and len(rows) == 6
    assert {(row["test_clips"], row["clips"], row["seed"]) for row in rows} == {(6, 2, 0)}
    assert by_method["majority"]["top1"] == pytest.approx(1 / 3)
    given = by_method["flux"]["cpu_seconds"]
    taken = by_method["three_frames"]["cpu_seconds"]
    assert given <= taken < given + 2, "the CNN stops with the first step after the time of FluxViT"

    trained = {name for kind, names in used if kind in ("FluxTrainer", "fit_cnn", "fit_thumbnails") for name in names}
    tested = {name for kind, names in used if kind in ("evaluate", "predict_cnn", "thumbnails") for name in names}
    assert len(trained) == len(tested) == 6 and not trained & tested

    kinds = [kind for kind, _ in used]
    assert run() == rows and len(used) == len(kinds), "nothing is computed again"

    found = json.loads(run.output.read_text())
    found["rows"] = [row for row in rows if row["method"] != "thumbnails"]
    run.output.write_text(json.dumps(found))
    again = {row["method"]: row for row in run()}
    assert [kind for kind, _ in used][len(kinds) :] == ["fit_thumbnails", "thumbnails"]
    assert again["thumbnails"]["top1"] == by_method["thumbnails"]["top1"]

    with pytest.raises(ValueError, match="rows of other clips, another recipe"):
        run("--held_out", "3")
    with pytest.raises(ValueError, match="rows of other clips, another recipe or checkpoint"):
        run("--random_weights", "true")
    with pytest.raises(ValueError, match="has 8 clips, --held_out 2 and --clips 7 need more"):
        run("--clips", "7")


@pytest.mark.long
@pytest.mark.parametrize("random", [True, False])
def test_what_training_starts_from(run, monkeypatch, random):
    started = []

    class Watched(compare.FluxTrainer):
        def train(self):
            started.append(self.model.fluxvit.embeddings.cls_token.detach().clone())
            return super().train()

    monkeypatch.setattr(compare, "FluxTrainer", Watched)
    run("--random_weights", str(random), "--baselines", "false")
    shipped = FluxViTForVideoClassification.from_pretrained(default_checkpoint()).fluxvit.embeddings.cls_token
    assert started[0].equal(shipped) is not random


def test_a_seed_has_one_test_set_and_fewer_clips_are_among_more(folder):
    dataset = load_video_dataset(str(folder), "train")
    tests = []
    for seed in range(3):
        parts = [compare.split(dataset, 3, clips, seed) for clips in (2, 5)]
        few, many = (set(video_names(train)) for train, _ in parts)
        test, same = (set(video_names(test)) for _, test in parts)
        assert few < many and test == same and not many & test
        assert [parts[1][0]["label"][:].count(label) for label in range(3)] == [5, 5, 5]
        tests.append(test)
    assert len(set(map(frozenset, tests))) > 1


def test_tables_show_means_over_seeds(tmp_path):
    def row(method, seed, top1, seconds, epochs=None, tokens=None, steps=None):
        names = ("method", "clips", "seed", "epochs", "tokens", "top1", "test_clips", "cpu_seconds", "steps")
        return dict(zip(names, (method, 5, seed, epochs, tokens, top1, 160, seconds, steps), strict=True))

    def results(name: str, rows: list[dict]):
        head = {"command": "go", "date": "today", "machine": {}, "versions": {}}
        path = tmp_path / name
        path.write_text(json.dumps(head | {"settings": {"label_names": ["a", "b"]}, "rows": rows}))
        return path

    rows = [row("flux", seed, 0.5 + 0.2 * seed, 60.0, None, 64, 250) for seed in (0, 1)]
    others = [row("three_frames", 0, 0.8, 60.5), row("majority", 0, 0.125, 0.0)]
    drawn = [row("flux", 0, 0.4, 90.0, 10, 64, 20)]
    tables = report.tables(results("results.json", rows + others), {"drawn_grids": results("drawn_grids.json", drawn)})
    assert tables["own_clips.accuracy"].splitlines()[2] == (
        "| 5 | recipe's | 250 | 2 | 1.0 | 60.0 ± 14.1 | 80.0 | – | 12.5 |"
    )
    assert tables["own_clips.drawn_grids"].splitlines()[2] == "| 5 | 10 | 20 | 1 | 1.5 | 40.0 |"
