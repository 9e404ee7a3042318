"""Token Optimization: planted optima, what the search costs, and where its result ends up."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoVideoProcessor, pipeline

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.evaluation.records import RecordFolder
from flux_hf.scripts.optimize_tokens import main
from flux_hf.token_optimization import candidate_grids, halving_schedule, search_grids
from flux_hf.token_optimization.candidates import video_part
from flux_hf.token_optimization.report import (
    accuracy_cost_front,
    heat_map,
    new_grids,
    paired_comparison,
    what_is_worth_it,
    what_it_tells,
)
from flux_hf.token_optimization.saving import save_processor
from flux_hf.token_optimization.search import balanced_order, halves, sign_test
from tests import video_datasets
from tests.tiny_clip import tiny_clip_processor
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video

LABELS = ["dark", "grey", "light"]
FRAMES, SIZES = [2, 4, 6, 8], [16, 24, 32, 40]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
CONFIG = FluxViTConfig(
    **PATCHES_OF_8 | {"position_size": 32},
    head_token_budgets=[32, 16],
    id2label=dict(enumerate(LABELS)),
    label2id={name: index for index, name in enumerate(LABELS)},
)


def one_colour(label: int, number: int):
    """Red says the label, green and blue which video it is."""
    colour = (40 + 80 * label, 20 + 25 * (number % 8), 20 + 25 * (number // 8))
    return lambda frame, height, width: np.full((height, width, 3), colour, np.uint8)


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """64 calibration and 16 test videos of three classes, one of the calibration files broken."""
    root = tmp_path_factory.mktemp("videos")
    for split, count in (("validation", 64), ("test", 16)):
        for number in range(count):
            folder = root / split / LABELS[number % 3]
            folder.mkdir(parents=True, exist_ok=True)
            data = encode_video(8, height=40, width=40, picture=one_colour(number % 3, number), options={"crf": "4"})
            (folder / f"{split}_{number}.mp4").write_bytes(b"" if (split, number) == ("validation", 5) else data)
    return root


@pytest.fixture
def calibration(dataset_dir):
    return load_video_dataset(dataset_dir, "validation")


@pytest.fixture
def processor():
    return FluxVideoProcessor(patch_size=8, grids={32: (4, 32), 16: (4, 32), 8: (2, 16)})


def planted(best: dict, calls: list | None = None, gap: float = 0.25):
    """A classifier that reads the label off the pixels and is right with a chance that depends on the grid alone: best
    on the planted grid of the budget, less the farther from it. Whether it is right is fixed for a video and a grid."""

    def forward(model, pixels, budget):
        frames, side = pixels.shape[1], pixels.shape[-1]
        if calls is not None:
            calls.append((budget, frames, side, len(pixels)))
        colours = ((pixels * STD + MEAN) * 255).mean((1, 3, 4))
        labels = ((colours[:, 0] - 40) / 80).round().long()
        steps = abs(math.log2(frames / best[budget][0])) + abs(math.log2(side / best[budget][1]))
        wrong = []
        for number in (colours[:, 1:] / 25).round().long().tolist():
            chance = np.random.default_rng([*map(abs, number), budget, frames, side]).random()
            wrong.append(chance > 0.95 - gap * min(steps, 2))
        labels = (labels + torch.tensor(wrong)) % 3
        return 5.0 * torch.nn.functional.one_hot(labels, 3).float()

    return forward


def search(calibration, processor, forward, **options):
    model = FluxViTForVideoClassification(CONFIG).eval()
    return search_grids(calibration, model, processor, [32, 16], FRAMES, SIZES, forward=forward, **options)


@pytest.mark.long
@pytest.mark.parametrize("best", [{32: (8, 24), 16: (2, 40)}, {32: (4, 40), 16: (8, 16)}])
def test_planted_optimum_is_found_for_less_than_trying_everything(calibration, processor, best):
    calls = []
    result = search(calibration, processor, planted(best, calls))
    assert {budget: tuple(found["grid"]) for budget, found in result["budgets"].items()} == best

    compute = result["compute"]
    candidates = sum(len(candidate_grids(budget, FRAMES, SIZES, 8)) for budget in (32, 16))
    assert (compute["videos"], compute["unreadable"]) == (63, 1)
    assert compute["exhaustive"] == 63 * candidates
    assert compute["evaluations"] == sum(count for *_, count in calls) < 0.45 * compute["exhaustive"]
    assert compute["gmacs"] < 0.6 * compute["gmacs_exhaustive"]


@pytest.mark.long
def test_rounds_follow_the_schedule(calibration, processor):
    result = search(calibration, processor, planted({32: (8, 24), 16: (2, 40)}), rounds=3)
    for found in result["budgets"].values():
        schedule = halving_schedule(len(found["grids"]), 64, 3)
        for number, (videos, _) in enumerate(schedule, 1):
            still_in = [entry for entry in found["grids"] if entry["rounds"] >= number]
            assert len(still_in) == (schedule[number - 2][1] if number > 1 else len(found["grids"]))
            ended = [entry for entry in still_in if entry["rounds"] == number]
            assert all(videos - 1 <= entry["videos"] <= videos for entry in ended)
        (winner,) = [entry for entry in found["grids"] if entry["grid"] == found["grid"]]
        finalists = [entry for entry in found["grids"] if entry["rounds"] == 3]
        assert winner["accuracy"] == max(entry["accuracy"] for entry in finalists)
        assert winner["videos"] == 63


def test_schedule():
    assert halving_schedule(16, 64, 4) == [(8, 8), (16, 4), (32, 2), (64, 1)]
    assert halving_schedule(1, 5, 2) == [(3, 1), (5, 1)]
    assert halving_schedule(30, 100, 1) == [(100, 1)]


def test_order_takes_the_classes_in_turn():
    labels = [0] * 30 + [1] * 6 + [2] * 3
    order = balanced_order(labels, seed=4)
    assert sorted(order) == list(range(39))
    assert sorted(labels[row] for row in order[:9]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert balanced_order(labels, seed=4) == order != balanced_order(labels, seed=5)


def test_sign_test():
    assert sign_test(5, 0) == 1 / 32
    assert sign_test(1, 1) == 0.75
    assert sign_test(0, 0) == 1


def test_cheap_grid_wins_among_equals_when_cost_counts(calibration, processor):
    def always_right(model, pixels, budget):
        red = ((pixels * STD + MEAN) * 255).mean((1, 3, 4))[:, 0]
        return 5.0 * torch.nn.functional.one_hot(((red - 40) / 80).round().long(), 3).float()

    result = search(calibration, processor, always_right, objective="gmacs")
    for budget, found in result["budgets"].items():
        assert found["equal"] == [entry["grid"] for entry in found["grids"] if entry["rounds"] == 4]
        grids = candidate_grids(budget, FRAMES, SIZES, 8)
        fewest = min(f * (size // 8) ** 2 for f, size in grids)
        assert found["grid"][0] * (found["grid"][1] // 8) ** 2 == fewest
        assert found["cost"] == min(entry["cost"] for entry in found["grids"])


def test_a_cheap_grid_that_is_worse_does_not_win(calibration, processor):
    best = {32: (8, 40), 16: (8, 40)}
    result = search(calibration, processor, planted(best, gap=0.45), objective="gmacs")
    assert all(found["equal"] == [[8, 40]] for found in result["budgets"].values())
    assert {budget: tuple(found["grid"]) for budget, found in result["budgets"].items()} == best


@pytest.mark.long
def test_grids_above_the_limit_are_left_out(calibration, processor):
    best = {32: (8, 40), 16: (8, 40)}
    everything = search(calibration, processor, planted(best), objective="gmacs", rounds=1)
    assert everything["compute"]["share"] == 1  # one round tries everything
    limit = sorted(entry["cost"] for entry in everything["budgets"][32]["grids"])[3]
    result = search(calibration, processor, planted(best), objective="gmacs", max_cost=limit)
    for found in result["budgets"].values():
        assert found["grids"] and all(entry["cost"] <= limit for entry in found["grids"])
    with pytest.raises(ValueError, match="no grid for 32 tokens costs 1e-06 gmacs or less, the least is 0.00"):
        search(calibration, processor, planted(best), objective="gmacs", max_cost=1e-6)


@pytest.mark.long
def test_an_interrupted_search_goes_on(calibration, processor, tmp_path):
    best = {32: (8, 24), 16: (2, 40)}
    torch.manual_seed(0)
    calls, total = [], []
    whole = planted(best, total)

    def breaks(model, pixels, budget):
        if len(calls) == 60:
            raise KeyboardInterrupt
        return planted(best, calls)(model, pixels, budget)

    model = FluxViTForVideoClassification(CONFIG).eval()
    options = {"records_dir": tmp_path, "batch_size": 4}
    arguments = (calibration, model, processor, [32, 16], FRAMES, SIZES)
    with pytest.raises(KeyboardInterrupt):
        search_grids(*arguments, forward=breaks, **options)
    done = RecordFolder(tmp_path, json.loads((tmp_path / "settings.json").read_text())).load()
    assert 0 < len(done) < 64

    expected = search_grids(*arguments, forward=whole)
    calls.clear()
    result = search_grids(*arguments, forward=planted(best, calls), **options)
    assert result == expected
    assert sum(c for *_, c in calls) == sum(c for *_, c in total) - sum(len(r.get("arms", [])) for r in done)
    with pytest.raises(ValueError, match="holds results of other options"):
        search_grids(*arguments, forward=whole, seed=1, **options)


def test_candidates():
    assert candidate_grids(32, [2, 4], [16, 32], 8) == [(2, 32), (4, 32)]
    for arguments, message in [
        ((500, [2], [32], 8), r"no grid of \[2\] frames x \[32\] pixels has 500 tokens"),
        ((16, [2], [30, 32], 8), r"multiples of patch_size=8, got \[30\]"),
        ((16, [0], [32], 8), "must be >= 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            candidate_grids(*arguments)


def test_a_processor_whose_settings_win_over_grids_is_refused(calibration):
    with pytest.raises(ValueError, match="set them to None"):
        search(calibration, FluxVideoProcessor(patch_size=8, num_frames=4), planted({}))


def test_front_and_heat_map():
    def entry(grid, cost, accuracy, rounds):
        return {"grid": grid, "cost": cost, "accuracy": accuracy, "rounds": rounds, "videos": 10}

    budgets = {
        32: {"grid": [4, 40], "grids": [entry([4, 40], 3.0, 0.9, 2), entry([2, 40], 2.0, 0.5, 1)]},
        16: {"grid": [2, 32], "grids": [entry([2, 32], 1.0, 0.7, 2), entry([4, 32], 1.5, 0.6, 2)]},
    }
    front = accuracy_cost_front({"rule": {"rounds": 2}, "budgets": budgets})
    assert [(point["token_budget"], point["grid"]) for point in front] == [(16, [2, 32]), (32, [4, 40])]
    table = heat_map(16, budgets[16])
    assert (table["frames"], table["sizes"]) == ([2, 4], [32]) and table["accuracy"] == [[0.7], [0.6]]
    assert heat_map(32, budgets[32])["accuracy"] == [[0.5], [0.9]]


@pytest.fixture
def checkpoint(tmp_path, processor):
    torch.manual_seed(0)
    FluxViTForVideoClassification(CONFIG).save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.long
@pytest.mark.parametrize("objective", ["gmacs", pytest.param("latency_ms", marks=pytest.mark.slow)])
def test_command_writes_what_the_pipeline_then_uses(dataset_dir, checkpoint, tmp_path, capsys, objective):
    output = tmp_path / "optimised"
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output_dir", str(output)]
    command += ["--frames", "2", "8", "--sizes", "24", "40", "--rounds", "2", "--objective", objective]
    config = checkpoint / "video_preprocessor_config.json"
    as_it_was = config.read_bytes()
    main(command)
    assert config.read_bytes() == as_it_was
    result = json.loads((output / "result.json").read_text())
    grids = {int(budget): tuple(found["grid"]) for budget, found in result["budgets"].items()}
    assert set(grids) == {32, 16} and set(grids.values()) <= {(2, 24), (2, 40), (8, 24), (8, 40)}

    assert FluxVideoProcessor.from_pretrained(output / "processor_after").grids == {**grids, 8: (2, 16)}
    main([*command, "--write"])
    assert (checkpoint / "video_preprocessor_config.before.json").read_bytes() == as_it_was
    loaded = AutoVideoProcessor.from_pretrained(checkpoint)
    written = {}
    for budget, (frames, size) in grids.items():
        said = f"- {budget} tokens: {frames} x {size}² instead of 4 x 32², it is " in (output / "result.md").read_text()
        written[budget] = (frames, size) if said else (4, 32)
    assert set(written.values()) != {(4, 32)}  # what cannot be told apart is cheaper for one of them
    assert loaded.grids == {**written, 8: (2, 16)}  # what was not searched for stays
    assert loaded.choose_grid(32) == written[32]
    classify = pipeline("video-classification", model=str(checkpoint))
    shapes = []
    classify.model.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(tuple(options["pixel_values_videos"].shape)), with_kwargs=True
    )
    classify.video_processor.token_budget = 16
    classify(str(next(dataset_dir.glob("test/dark/*.mp4"))))
    frames, size = written[16]
    assert shapes == [(1, frames, 3, size, size)]

    assert result["test"]["after"]["num_videos"] == 16
    assert result["test"]["before"]["budgets"]["32"]["grid"] == [4, 32]
    assert result["test"]["after"]["budgets"]["16"]["grid"] == list(grids[16])
    assert "16 videos of the test split" in capsys.readouterr().out
    for name in ("heat_maps.png", "front.png"):
        with Image.open(output / name) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100

    before = (output / "result.json").read_text()
    capsys.readouterr()
    main(command)  # all is there: the same result, from the grids as they were before the first run
    assert "video/s" not in capsys.readouterr().err  # no bars for what is done
    again, first = json.loads((output / "result.json").read_text()), json.loads(before)
    assert again["budgets"]["32"]["grid"] == first["budgets"]["32"]["grid"]
    assert again["test"]["before"]["budgets"]["32"]["grid"] == [4, 32]


@pytest.mark.parametrize("make", [FluxVideoProcessor, tiny_clip_processor])
def test_a_processor_brings_code_only_where_there_is_code(make, tmp_path):
    made, without, with_code = make(), tmp_path / "without", tmp_path / "with"
    save_processor(made, tmp_path / "new")  # as save_pretrained does
    assert list((tmp_path / "new").glob("*.py"))
    for folder in (without, with_code):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (with_code / "modeling.py").touch()
    for folder in (without, with_code):
        save_processor(made, folder)
    assert list(with_code.glob("*processing*.py"))
    assert not list(without.glob("*.py"))
    assert not any("auto_map" in path.read_text() for path in without.glob("*.json"))
    grids = [video_part(type(made).from_pretrained(folder)).grids for folder in (without, with_code)]
    assert grids[0] == grids[1] == video_part(made).grids


def test_command_reads_list_files(checkpoint, tmp_path):
    folder = video_datasets.kinetics(tmp_path / "videos", {"train": 3, "test": 3})
    lists, output = tmp_path / "lists", tmp_path / "optimised"
    (output / "processor_before").mkdir(parents=True)  # as of a run that was killed while it wrote this
    (output / "processor_before" / "video_preprocessor_config.json").write_text('{"do_')
    lists.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").rename(lists / f"{split}.csv")
    (lists / "names.txt").write_text("".join(f"{name}\n" for name in LABELS))
    command = ["--dataset", str(lists), "--checkpoint", str(checkpoint), "--output_dir", str(output)]
    command += ["--frames", "2", "--sizes", "40", "--token_budgets", "16", "--video_root", str(folder)]
    command += ["--labels_file", str(lists / "names.txt")]
    with pytest.raises(ValueError, match=r"^--calibration_split: .* has no split 'validation', it has "):
        main(command)
    main([*command, "--calibration_split", "train"])
    result = json.loads((output / "result.json").read_text())
    assert result["compute"]["videos"] == result["test"]["after"]["num_videos"] == 3
    assert list(result["test"]["after"]["budgets"]["16"]["per_class"]) == LABELS


def test_without_a_test_split_half_of_the_calibration_split_is_reported_on(checkpoint, tmp_path, capsys):
    folder = video_datasets.kinetics(tmp_path / "videos", {"validation": 6, "train": 6})
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in LABELS))
    command = ["--dataset", str(folder), "--checkpoint", str(checkpoint), "--labels_file", str(folder / "names.txt")]
    command += ["--frames", "2", "--sizes", "40", "--token_budgets", "16"]
    main([*command, "--output_dir", str(tmp_path / "halves")])
    said = capsys.readouterr().out
    assert "3 videos of its split validation are searched on, the report is on the other 3." in said
    assert "3 videos of the other half of the validation split" in said and "If the model has learned" not in said
    searched, reported = (
        json.loads((tmp_path / "halves" / name / "settings.json").read_text())["files"]
        for name in ("search", "test_before")
    )
    assert searched != reported
    with pytest.raises(ValueError, match="^--test_split: .* has no split 'test'"):
        main([*command, "--output_dir", str(tmp_path / "no"), "--test_split", "test"])
    main([*command, "--output_dir", str(tmp_path / "train"), "--test_split", "train"])
    assert "6 videos of the train split, which the search did not see. If the model has" in capsys.readouterr().out
    (folder / "test.csv").write_bytes((folder / "validation.csv").read_bytes())
    main([*command, "--output_dir", str(tmp_path / "same")])
    assert "3 videos of the other half" in capsys.readouterr().out


def test_halves_have_every_class_alike():
    from datasets import Dataset

    dataset = Dataset.from_dict({"label": [0] * 9 + [1] * 4 + [2], "row": range(14)})
    one, other = halves(dataset, seed=3)
    assert sorted(one["row"][:] + other["row"][:]) == list(range(14)) and len(one) == len(other)
    for label, count in enumerate((9, 4, 1)):
        assert {one["label"][:].count(label), other["label"][:].count(label)} == {count // 2, (count + 1) // 2}
    assert one["row"][:] == halves(dataset, seed=3)[0]["row"][:] != halves(dataset, seed=4)[0]["row"][:]
    with pytest.raises(ValueError, match="1 videos do not make two halves"):
        halves(dataset.select([0]), seed=0)


@pytest.mark.parametrize(
    ("pairs", "gmacs", "change", "words"),
    [
        ((6, 0, 1 / 32), 9.0, True, "8 x 24² instead of 4 x 32², it is better"),
        ((0, 6, 1 / 32), 1.0, False, "4 x 32² stays, 8 x 24² is worse"),
        ((2, 1, 1.0), 5.0, False, "4 x 32² stays, 8 x 24² is not shown to be better and is no cheaper"),
        ((2, 1, 1.0), 4.9, True, "8 x 24² instead of 4 x 32², it is right on no fewer videos and cheaper"),
        ((1, 2, 1.0), 4.9, False, "4 x 32² stays, 8 x 24² is cheaper, but right on fewer videos"),
    ],
)
def test_only_grids_that_are_worth_it_are_written(pairs, gmacs, change, words):
    same = {"grid": [2, 16], "gmacs": 1.0}
    result = {
        "rule": {"objective": "tokens"},
        "budgets": {32: {"grids": []}, 16: {"grids": []}},
        "test": {
            "before": {"budgets": {32: {"grid": [4, 32], "gmacs": 5.0}, 16: same}},
            "after": {"budgets": {32: {"grid": [8, 24], "gmacs": gmacs}, 16: same}},
            "paired": {
                32: dict(zip(("after", "before", "p"), pairs, strict=True)),
                16: {"after": 0, "before": 0, "p": 1.0},
            },
        },
    }
    assert new_grids(result) == ({32: (8, 24), 16: (2, 16)} if change else {})
    assert what_is_worth_it(result).splitlines()[2:] == [f"- 32 tokens: {words}.", "- 16 tokens: 2 x 16² stays."]


def test_milliseconds_decide_what_is_cheaper_where_they_are_the_objective():
    grids = [{"grid": [4, 32], "cost": 9.0}, {"grid": [8, 24], "cost": 7.0}]
    result = {
        "rule": {"objective": "latency_ms"},
        "budgets": {32: {"grids": grids}},
        "test": {
            "before": {"budgets": {32: {"grid": [4, 32], "gmacs": 1.0}}},
            "after": {"budgets": {32: {"grid": [8, 24], "gmacs": 2.0}}},
            "paired": {32: {"after": 1, "before": 1, "p": 1.0}},
        },
    }
    assert new_grids(result) == {32: (8, 24)}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--rounds", "0"], "^--rounds must be at least 1, got 0$"),
        (["--frames", "4", "0"], "^--frames must be at least 1, got 0$"),
        (["--batch_size", "0"], "^--batch_size must be at least 1, got 0$"),
        (["--token_budgets", "8", "8"], "^--token_budgets must name each value once, got 8 8$"),
        (["--video_root", "nope"], "^--video_root nope: there is no such file or folder$"),
        (["--checkpoint", "./nope"], "^--checkpoint ./nope: there is no folder ./nope here$"),
    ],
)
def test_values_are_checked_before_anything_is_loaded(checkpoint, tmp_path, option, message):
    (checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        main(["--dataset", "./none", "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "o"), *option])


@pytest.mark.parametrize(
    ("option", "message"),
    [(["--sizes", "30"], "multiples of patch_size=8"), (["--frames", "1", "--sizes", "8"], "no grid of")],
)
def test_grids_are_checked_before_videos_are_looked_for(checkpoint, tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        main(["--dataset", "./none", "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "o"), *option])


def test_searching_on_the_test_split_is_refused(dataset_dir, checkpoint, tmp_path):
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "o")]
    with pytest.raises(ValueError, match="^--calibration_split test and --test_split test share 16 videos"):
        main([*command, "--calibration_split", "test", "--test_split", "test"])
    with pytest.raises(ValueError, match="--write needs a checkpoint in a folder, got --checkpoint no/where"):
        main(
            ["--dataset", str(dataset_dir), "--checkpoint", "no/where", "--output_dir", str(tmp_path / "o"), "--write"]
        )


def records(answers: str) -> list[dict]:
    """Videos of class 0 at one budget: R for a right answer, W for a wrong one, - for one that cannot be read."""
    return [
        {"row": row, "reason": "broken"}
        if each == "-"
        else {"row": row, "label": 0, "arms": [{"top": ["RW".index(each)]}]}
        for row, each in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected", "words"),
    [
        (
            "RRWW-R",
            "RWRRR-",
            {"after": 2, "before": 1, "p": 1.0},
            "too few to tell 8 x 24² from 4 x 32²: 8 x 24² alone is",
        ),
        ("WWWWWWR", "RRRRRRR", {"after": 6, "before": 0, "p": 1 / 32}, "8 x 24² is better than 4 x 32²: of 7 test"),
        ("RRRRRRR", "WWWWWWR", {"after": 0, "before": 6, "p": 1 / 32}, "8 x 24² is worse than 4 x 32²: of 7 test"),
        ("WWWWWR", "RRRRRR", {"after": 5, "before": 0, "p": 1 / 16}, "too few to tell"),
    ],
)
def test_the_report_says_what_the_videos_can_tell(before, after, expected, words):
    compared = paired_comparison(records(before)[::-1], records(after), [32])
    assert compared == {32: expected}
    result = {
        "budgets": {32: {"grid": [8, 24], "equal": [[8, 24], [2, 40]]}},
        "compute": {"videos": 9},
        "test": {
            "before": {"budgets": {32: {"grid": [4, 32]}}},
            "after": {"budgets": {32: {"grid": [8, 24]}}, "num_videos": 7},
            "paired": compared,
        },
    }
    assert words in what_it_tells(result)
    assert "9 calibration videos cannot tell 8 x 24² from 2 x 40²." in what_it_tells(result)
