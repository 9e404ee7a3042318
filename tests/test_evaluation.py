import json
import shutil
from dataclasses import fields

import numpy as np
import pytest
import torch

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.records import load_records
from flux_hf.modeling.token_selection_fluxvit import selection_rules
from flux_hf.scripts.evaluate_checkpoint import EvaluateOptions, main
from tests import video_datasets
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video

LABELS = ["bright", "dark", "grey"]


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """Seven readable videos of three classes and one broken file, in videofolder layout."""
    root = tmp_path_factory.mktemp("videos")
    draw = np.random.default_rng(0)
    for index in range(7):
        folder = root / "test" / LABELS[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        noise = draw.integers(0, 255, (96, 128, 3), dtype=np.uint8)
        data = encode_video(10, picture=lambda number, *size, noise=noise: np.roll(noise, number, 1))
        (folder / f"{index}.mp4").write_bytes(data)
    (root / "test" / "dark" / "broken.mp4").write_bytes(b"nothing to see")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = FluxViTConfig(
        **PATCHES_OF_8,
        head_token_budgets=[64, 32],
        layer_scale_init=1.0,
        initializer_range=0.5,
        id2label=dict(enumerate(["grey", "dark", "bright", "other"])),
        label2id={"grey": 0, "dark": 1, "bright": 2, "other": 3},
    )
    FluxViTForVideoClassification(config).save_pretrained(folder)
    FluxVideoProcessor(patch_size=8, grids={64: (4, 48), 32: (4, 48), 16: (2, 32)}).save_pretrained(folder)
    return folder


def test_figures_equal_classifying_the_videos_one_by_one(dataset_dir, checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(checkpoint)
    dataset = load_video_dataset(dataset_dir, "test")
    result = evaluate(dataset, model, processor, [64, 32, 16], batch_size=3)

    assert result["num_videos"] == 7
    assert [entry["video"].endswith("broken.mp4") for entry in result["unreadable"]] == [True]
    assert result["label_names"] == ["grey", "dark", "bright", "other"]
    for budget in (64, 32, 16):
        confusion = np.zeros((4, 4), int)
        for row in dataset:
            if row["video"]["path"].endswith("broken.mp4"):
                continue
            with torch.no_grad():
                logits = model(**processor(row["video"]["path"], token_budget=budget, return_tensors="pt")).logits
            confusion[model.config.label2id[dataset.features["label"].int2str(row["label"])], logits.argmax()] += 1
        figures = result["budgets"][budget]
        assert figures["confusion"] == confusion.tolist()
        assert figures["top1"] == pytest.approx(confusion.trace() / 7)
        assert figures["grid"] == list(processor.choose_grid(budget))
        assert figures["per_class"]["other"] is None


def places(scores, token_budget):
    """A rule of your own: the last tokens."""
    return (torch.arange(scores[0].numel()) >= scores[0].numel() - token_budget).expand(len(scores), -1)


@pytest.mark.parametrize(("rule", "name"), [("uniform", "uniform"), (places, f"{__name__}.places")])
def test_a_rule_selects_and_the_result_names_it(dataset_dir, checkpoint, tmp_path, rule, name):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(checkpoint)
    dataset = load_video_dataset(dataset_dir, "test")
    result = evaluate(dataset, model, processor, [32], token_selection=rule, records_dir=tmp_path / "records")
    assert result["token_selection"] == name
    assert model.token_selection == "group_dynamic"
    for record in load_records(tmp_path / "records"):
        if "reason" in record:
            continue
        inputs = processor(dataset[record["row"]]["video"]["path"], token_budget=32, return_tensors="pt")
        with torch.no_grad():
            scores = model(**inputs, token_selection=rule).logits[0].softmax(-1)
        assert record["arms"][0]["scores"] == pytest.approx(scores.sort(descending=True).values.tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="token_selection"):
        evaluate(dataset, model, processor, [32], records_dir=tmp_path / "records")


def test_random_tokens_do_not_depend_on_the_batch(dataset_dir, checkpoint, tmp_path):
    """Nor on the state of the generator; the model's own rule counts where none is given."""
    model = FluxViTForVideoClassification.from_pretrained(checkpoint, token_selection="random").eval()
    processor = FluxVideoProcessor.from_pretrained(checkpoint)
    dataset = load_video_dataset(dataset_dir, "test")
    found = []
    for batch_size in (1, 5):
        torch.manual_seed(batch_size)
        folder = tmp_path / str(batch_size)
        result = evaluate(dataset, model, processor, [32], num_clips=2, batch_size=batch_size, records_dir=folder)
        assert result["token_selection"] == "random"
        found.append(sorted(load_records(folder), key=lambda record: record["row"]))
    for one, other in zip(*found, strict=True):
        for answer, same in zip(one.get("arms", []), other.get("arms", []), strict=True):
            assert answer["top"] == same["top"]
            assert answer["scores"] == pytest.approx(same["scores"], abs=1e-5)


def test_the_command_selects_by_name(dataset_dir, checkpoint, tmp_path, capsys):
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--token_budgets", "32"]
    main([*command, "--token_selection", "tube", "--output", str(tmp_path / "tube.json")])
    assert json.loads((tmp_path / "tube.json").read_text())["token_selection"] == "tube"
    assert "token_selection tube" in capsys.readouterr().out
    (option,) = (field for field in fields(EvaluateOptions) if field.name == "token_selection")
    assert list(option.metadata["choices"]) == selection_rules()
    with pytest.raises(SystemExit):
        main([*command, "--token_selection", "tubes"])
    assert "tube" in capsys.readouterr().err


def test_labels_unknown_to_the_model_are_refused(dataset_dir, checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint)
    model.rename_labels(["dark", "bright", "black"])
    with pytest.raises(ValueError, match=r"the model has no label \['grey'\]"):
        evaluate(load_video_dataset(dataset_dir, "test"), model, FluxVideoProcessor(), [64])


def test_list_files_with_their_videos_and_labels_somewhere_else(checkpoint, tmp_path, capsys):
    folder = video_datasets.kinetics(tmp_path / "videos", {"test": 4})
    lists = tmp_path / "lists"
    lists.mkdir()
    (folder / "test.csv").rename(lists / "test.csv")
    (lists / "names.txt").write_text("dark\ngrey\nbright\n")
    command = ["--dataset", str(lists), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "result.json")]
    main([*command, "--video_root", str(folder), "--labels_file", str(lists / "names.txt")])
    result = json.loads((tmp_path / "result.json").read_text())
    confusion = np.array(result["budgets"]["64"]["confusion"])
    # Classes of the model: grey, dark, bright, other. Labels 0, 1, 2, 0 of the list are dark, grey, bright, dark.
    assert result["num_videos"] == 4 and confusion.sum(1).tolist() == [1, 2, 1, 0]
    with pytest.raises(ValueError, match=r"the model has no label \['0', '1', '2'\]"):
        main([*command, "--video_root", str(folder)])
    with pytest.raises(FileNotFoundError, match=r"the first video of .*test\.csv, does not exist; set video_root"):
        main(command)


def test_a_split_that_is_not_there(dataset_dir, checkpoint):
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint)]
    with pytest.raises(ValueError, match=r"^--split: .* has no split 'validation', it has test$"):
        main([*command, "--split", "validation"])


def test_without_a_test_split_the_validation_split_is_taken(dataset_dir, checkpoint, tmp_path, capsys):
    shutil.copytree(dataset_dir / "test", tmp_path / "validation")
    command = ["--dataset", str(tmp_path), "--checkpoint", str(checkpoint)]
    main([*command, "--token_budgets", "32"])
    assert capsys.readouterr().out.startswith("split validation: 7 videos, 1 unreadable, 1 clip x 1 crop\n")
    with pytest.raises(ValueError, match="^--split: .* has no split 'test', it has validation$"):
        main([*command, "--split", "test"])
    (tmp_path / "validation").rename(tmp_path / "train")
    with pytest.raises(ValueError, match="^--split: .* has no split 'test', it has train$"):
        main(command)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--batch_size", "0"], "^--batch_size must be at least 1, got 0$"),
        (["--token_budgets", "32", "0"], "^--token_budgets must be at least 1, got 0$"),
        (["--token_budgets", "32", "32"], "^--token_budgets must name each value once, got 32 32$"),
        (["--num_workers", "-1"], "^--num_workers must be at least 0, got -1$"),
        (["--num_crops", "0"], "^--num_crops must be at least 1, got 0$"),
        (["--labels_file", "nope"], "^--labels_file nope: there is no such file or folder$"),
        ([], "^no such data set: there is no folder ./none here$"),
    ],
)
def test_values_are_checked_before_anything_is_loaded(tmp_path, option, message):
    (tmp_path / "config.json").write_text("{}")  # no model
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["--dataset", "./none", "--checkpoint", str(tmp_path), *option])


def test_command_writes_json(dataset_dir, checkpoint, tmp_path, capsys):
    output = tmp_path / "result.json"
    main(["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["budgets"].keys() == {"64", "32"}
    assert result["split"] == "test" and "--output" in result["command"] and result["versions"]["torch"]
    said = capsys.readouterr().out
    assert said.startswith("split test: 7 videos, 1 unreadable, 1 clip x 1 crop\n")
    *names, last = said.splitlines()[-1].removeprefix("written: ").split(", ")
    assert {*names, last} == {str(path) for path in tmp_path.iterdir()}


def test_a_set_without_labels_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.mp4").write_bytes(encode_video(4))
    with pytest.raises(ValueError, match=r"has no labels: give every class a folder, SPLIT/LABEL/clip.mp4"):
        load_video_dataset(tmp_path, "test")
