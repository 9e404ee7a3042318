"""What the methods are compared with on the manipulation clips: a single frame, simple classifiers, and the report."""

import json

import pytest
import torch

from flux_hf.scripts.experiments.manipulation_clips import baselines, report, single_frame
from flux_hf.scripts.experiments.manipulation_clips.features import differences, flow, forest_logits
from flux_hf.scripts.experiments.manipulation_clips.fitting import Schedule, accuracies, fit, scores
from flux_hf.scripts.experiments.manipulation_clips.networks import NETWORKS, frames_of, gmacs
from flux_hf.scripts.experiments.manipulation_clips.pixels import (
    Clips,
    half_backwards,
    random_view,
    read_clips,
    whole_view,
)
from flux_hf.scripts.experiments.manipulation_clips.single_frame import chosen
from flux_hf.scripts.experiments.own_clips.baselines import frame_cnn
from tests.video_datasets import write_video

NAMES = ["door-close", "door-open", "drawer-close", "drawer-open"]
SIDE = 32


def bars(count: int, seed: int) -> Clips:
    """A bright bar that moves to the left (door-close) or right and comes in again on the other side: every place is as
    likely in every frame of both."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    starts = torch.randint(SIDE, (count,), generator=generator)
    frames = torch.zeros(count, 16, SIDE, SIDE, 3, dtype=torch.uint8)
    for clip in range(count):
        for frame in range(16):
            place = (starts[clip] + frame * (1 if labels[clip] else -1)) % SIDE
            frames[clip, frame, :, [(place + i) % SIDE for i in range(6)]] = 250
    return Clips(frames, labels, NAMES[:2])


@pytest.mark.long
def test_order_is_learnt_from_three_frames_and_nothing_from_one():
    train, test, reached = bars(128, 0), bars(64, 1), {}
    for view in ("first", "three"):
        frames = [0, 2, 4] if view == "three" else [0]
        torch.manual_seed(0)
        network, schedule = frame_cnn(len(frames), 2), Schedule(2e-3, batch=16, size=16, steps=60)
        assert fit(network, train, schedule, lambda video: video[:, frames]) == 60  # noqa: B023
        found = scores(network, test, schedule, lambda video: video[:, frames])  # noqa: B023
        reached[view] = accuracies(found, test.labels, NAMES[:2])["pair"]
    assert 0.3 < reached["first"] < 0.7 and reached["three"] > 0.95


def test_accuracy_of_tasks_and_of_pairs():
    logits = torch.tensor([[3.0, 1, 9, 0], [2, 1, 0, 5], [0, 0, 1, 2], [5, 0, 1, 2]])
    found = accuracies(logits, torch.tensor([0, 1, 2, 3]), NAMES)
    assert found["top1"] == 0 and found["pair"] == 0.5
    assert found["pairs"] == {"door-open / door-close": 0.5, "drawer-open / drawer-close": 0.5}


def test_a_training_ends_after_its_seconds():
    network = frame_cnn(1, 2)
    assert fit(network, bars(8, 0), Schedule(1e-3, batch=4, size=8, steps=10**9, seconds=0.1), lambda v: v[:, :1]) < 1e6


def test_views_are_the_same_in_all_frames_of_a_clip_and_show_what_is_there():
    slope = torch.arange(60, dtype=torch.uint8).expand(60, 60)[..., None].expand(60, 60, 3)
    frames = slope.expand(5, 4, 60, 60, 3)
    torch.manual_seed(0)
    seen = random_view(frames, 30)
    assert seen.shape == (5, 4, 3, 30, 30) and torch.equal(seen, seen[:, :1].expand_as(seen))
    assert len({clip.sum().item() for clip in seen}) == 5
    whole = whole_view(frames, 30)[0, 0, 0, 0]
    torch.testing.assert_close(whole, ((0.5 + 2 * torch.arange(30)) / 255 - 0.45) / 0.25)


def test_a_clip_played_backwards_is_one_of_the_opposite_task():
    clips = bars(40, 0)
    torch.manual_seed(0)
    frames, labels = half_backwards(clips.frames, clips.labels, clips.opposites)
    turned = labels != clips.labels
    assert 10 < turned.sum() < 30 and torch.equal(frames[~turned], clips.frames[~turned])
    assert torch.equal(frames[turned], clips.frames[turned].flip(1))
    backwards = clips.backwards()
    assert torch.equal(backwards.labels, 1 - clips.labels) and torch.equal(backwards.frames, clips.frames.flip(1))


def test_any_frame_is_one_of_each_clip():
    video = torch.arange(40).reshape(10, 4)
    drawn = chosen(video, None)
    assert drawn.shape == (10, 1) and torch.equal(drawn[:, 0] // 4, torch.arange(10))
    assert len(set((drawn[:, 0] % 4).tolist())) > 1


def test_differences_say_where_an_edge_moves():
    clips = bars(2, 0)
    clips.frames[:] = 0
    for frame in range(16):
        clips.frames[0, frame, :, 16 - frame // 2 : 22 - frame // 2] = 250
        clips.frames[1, frame, :, 8 + frame // 2 : 14 + frame // 2] = 250
    maps = differences(clips).reshape(2, 4, 4, -1)
    to_the_right, down = maps[:, 2].sum(dim=(1, 2)), maps[:, 3].abs().sum(dim=(1, 2))
    assert to_the_right[0] > 1 and to_the_right[1] < -1 and down.max() < 1e-3


@pytest.mark.long
def test_flow_says_what_goes_left_and_right():
    """As the forest learns it from other clips, it tells patches that move left from those that move right."""
    pytest.importorskip("cv2")
    pytest.importorskip("sklearn")
    found = forest_logits(flow(patches(24, 0)), patches(24, 0).labels, flow(patches(12, 1)), seed=0)
    assert found.shape == (12, 2) and (found.argmax(dim=1) == patches(12, 1).labels).all()


def patches(count: int, seed: int) -> Clips:
    """A square of noise that moves to the left (door-close) or right by two pixels a frame. (The optical flow does not
    see a plain bar: nothing in it says which point went where.)"""
    generator = torch.Generator().manual_seed(seed)
    labels, frames = torch.arange(count) % 2, torch.full((count, 16, 128, 128, 3), 90, dtype=torch.uint8)
    for clip in range(count):
        noise = torch.randint(256, (8, 8, 1), generator=generator, dtype=torch.uint8)
        square = noise.repeat_interleave(4, 0).repeat_interleave(4, 1)
        for frame in range(16):
            place = 50 + 2 * (frame - 8) * (1 if labels[clip] else -1)
            frames[clip, frame, 40:72, place : place + 32] = square
    return Clips(frames, labels, NAMES[:2])


@pytest.mark.parametrize(
    ("name", "millions"), [("three_frames", 0.4), ("cnn", 0.3), ("large_cnn", 1.2), ("videomae", 1.4)]
)
def test_networks_have_the_sizes_that_the_page_names(name, millions):
    network = NETWORKS[name](NAMES)
    assert baselines.parameters(network) / 1e6 == pytest.approx(millions, abs=0.06)
    frames = frames_of(name, torch.zeros(1, 16)).shape[1]
    assert 0.01 < gmacs(network, frames, 96) < 0.7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips of each of two tasks in every split."""
    root = tmp_path_factory.mktemp("clips")
    for split in ("train", "validation", "test"):
        for number, name in enumerate(2 * NAMES[:2]):
            write_video(root / split / name / f"{number}.mp4", number)
    return root


def test_labels_without_an_opposite_are_named(folder, tmp_path):
    for name in ("door-open", "running"):
        write_video(tmp_path / "train" / name / "0.mp4", 0)
    with pytest.raises(ValueError, match="door-open, running: labels must be"):
        read_clips(str(tmp_path), "train", str(tmp_path / "cache"), "cpu")


@pytest.mark.long
def test_forest_on_the_optical_flow(folder, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("sklearn")
    where = ["--data", str(folder), "--cache_dir", str(tmp_path / "cache"), "--runs", str(tmp_path)]
    baselines.main([*where, "--baseline", "flow"])
    found = json.loads((tmp_path / "flow-0.json").read_text())
    assert found["baseline"] == "flow" and 0 <= found["test"]["top1"] <= 1 and "trials" not in found


@pytest.mark.long
def test_commands_write_what_the_report_reads(folder, tmp_path):
    where = ["--data", str(folder), "--cache_dir", str(tmp_path / "cache")]
    runs, frames = tmp_path / "runs", tmp_path / "single_frame.json"
    for baseline in ("cnn", "differences"):
        baselines.main([*where, "--baseline", baseline, "--steps", "2", "--batch", "2", "--runs", str(runs)])
    found = json.loads((runs / "cnn-0.json").read_text())
    best = max(found["trials"], key=lambda trial: trial["top1"])
    assert [trial["learning_rate"] for trial in found["trials"]] == [1e-3, 3e-3]
    assert found["learning_rate"] == best["learning_rate"] and found["clips"]["test"] == 4
    single_frame.main([*where, "--output", str(frames), "--steps", "2", "--batch", "2", "--seeds", "0"])
    kinds = {(row["view"], row["classifier"], row["split"]) for row in json.loads(frames.read_text())["rows"]}
    assert len(kinds) == 5 * 2 * 2
    made = report.tables(tmp_path / "none.json", frames)
    assert made["manipulation.accuracy"] == report.NOT_MEASURED
    assert "door-open / door-close" in made["manipulation.frame.pairs"]
    headline = tmp_path / "headline.json"
    headline.write_text(json.dumps(methods(seed=0)))
    output, pictures = tmp_path / "results.json", [tmp_path / "plot.png", tmp_path / "compute.png"]
    where = ["--baselines", str(tmp_path / "none"), "--compute_baselines", str(runs), "--output", str(output)]
    where += ["--clips_baselines", str(tmp_path / "none"), "--equal_clips", str(headline)]
    where += ["--plot", str(pictures[0]), "--compute_plot", str(pictures[1])]
    report.main(["--headline", str(headline), "--equal_compute", str(headline), *where])
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    made = report.tables(output, frames)
    assert "small 3D CNN" in made["manipulation.equal_compute.baselines"] and made["manipulation.best"][:4] == "Best"
    assert "small 3D CNN" not in made["manipulation.baselines"] + made["manipulation.equal_clips.baselines"]


def test_trainings_of_other_batches_are_rows_of_their_own():
    def one(batch: int, seed: int, top1: float) -> dict:
        trial = {"learning_rate": 2e-3, "steps": 7000 // batch}
        test = {"top1": top1, "pair": 0.9}
        of_network = {"parameters": 4e5, "gmacs": 0.04, "batch": batch, "trials": [trial]}
        return {"baseline": "three_frames", "seed": seed, "test": test} | of_network

    made = report.baselines_table({"baselines": [one(100, 0, 0.8), one(70, 0, 0.5), one(70, 1, 0.7)]})
    assert [line.split("|")[4:8] for line in made.splitlines()[2:]] == [
        [" 100 ", " 70 ", " 2 ", " 60.0 ± 14.1 "],
        [" 70 ", " 100 ", " 1 ", " 80.0 "],
    ]


def methods(seed: int) -> dict:
    """A file of the headline experiment, of three methods."""
    row = {"same": "seconds", "seed": seed, "grid": [8, 96], "videos": 4}
    rows = [
        {"method": method, "saving": saving, "budget": budget, "top1": top1 + seed / 10, "backwards": 0.2, **row}
        | {"gmacs": budget / 1000}
        for method, top1 in (("plain", 0.5), ("flux_multi", 0.6), ("flux_few", 0.7))
        for saving in ("selector", "token_optimization", "random")
        for budget in (80, 40, 20, 10)
    ]
    runs = {
        f"{method}-same_seconds-seed{seed}": {"steps": 7, "seconds": 120.0}
        for method in ("plain", "flux_multi", "flux_few")
    }
    origin = {"command": "x", "date": "2026-01-01", "machine": {"cores": 2}, "versions": {"torch": "2"}}
    return origin | {"rows": rows, "budgets": [80, 40, 20, 10], "config": {"hidden_size": 8}, "runs": runs}


def test_report_puts_seeds_together(tmp_path):
    files = []
    for seed in (0, 1):
        files.append(tmp_path / f"{seed}.json")
        files[-1].write_text(json.dumps(methods(seed)))
    result = report.merged([str(file) for file in files], str(tmp_path / "none"))
    table = report.accuracy_table(result)
    assert "| plain ViT | 2 | 7 | fixed grid | 55.0 ± 7.1 |" in table and "1/8 (10)" in table
    assert "| GMACs |  |  | fixed grid | 0.080 | 0.040 |" in table
    short = report.short_table(result)
    assert "| plain ViT | 55.0 ± 7.1 |" in short and "| GMACs of Flux-Multi | 0.080 | 0.040 |" in short
    # (0.5 / 0.7 + 0.6 / 0.8) / 2 of the answers within the pair are right
    assert "| plain ViT | 75.0 / 73.2 |" in report.direction_table(result)
    assert "65.0 ± 7.1, at or above the plain ViT at all tokens (55.0 ± 7.1), at 25 %" in report.verdict_of(result)
    assert "FluxViT has 75.0 ± 7.1 with them, the plain ViT at all tokens 55.0 ± 7.1, for 25 %" in report.verdict_of(
        result
    )
    written = tmp_path / "results.json"
    where = ["--baselines", str(tmp_path / "none"), "--output", str(written), "--plot", str(tmp_path / "plot.png")]
    report.main(["--headline", str(files[0]), "--random_weights", str(files[1]), *where])
    made = report.tables(written, tmp_path / "none.json")
    assert "| plain ViT | 1 | 7 | fixed grid | 60.0 |" in made["manipulation.random_weights"]
    assert made["manipulation.equal_compute"] == made["manipulation.short"] == report.NOT_MEASURED
    assert made["manipulation"].splitlines()[-1].startswith("- Random weights: methods: `x`")
    with pytest.raises(ValueError, match="plain-same_seconds-seed0 is in several files"):
        report.merged([str(files[0]), str(files[0])], str(tmp_path / "none"))
    mixed = methods(3)
    mixed["rows"][0]["same"] = "compute"
    files[1].write_text(json.dumps(mixed))
    with pytest.raises(ValueError, match="1.json: methods with the same compute and with the same seconds"):
        report.merged([str(file) for file in files], str(tmp_path / "none"))
    other = methods(2) | {"budgets": [64, 32, 16, 8]}
    files[1].write_text(json.dumps(other))
    with pytest.raises(ValueError, match="1.json: budgets or model"):
        report.merged([str(file) for file in files], str(tmp_path / "none"))
