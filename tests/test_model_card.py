"""The generated model card: what it says, and that the Hub's library accepts its metadata."""

import json
import re

import pytest
import torch
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.hub import build_model_card
from flux_hf.hub.model_card import read_evaluation
from flux_hf.latency import forward_latency, machine, median_ms
from tests import tiny_pretraining

CONVERSION = {
    "source": {"file": "official.pth", "sha256": "ab12"},
    "family": "InternVideo2",
    "loaded": ["a", "b"],
    "resized": {"c": "x"},
    "new": {},
    "unused": {},
}


@pytest.fixture
def model(tiny_checkpoint):
    return AutoModelForVideoClassification.from_pretrained(tiny_checkpoint).eval()


@pytest.fixture
def processor(tiny_checkpoint):
    return AutoVideoProcessor.from_pretrained(tiny_checkpoint)


def evaluation(**changes) -> dict:
    """As `flux-hf evaluate` writes it."""
    result = {
        "num_videos": 200,
        "unreadable": [{"video": "/home/somebody/clips/test/a/broken.mp4", "reason": "moov atom not found"}],
        "label_names": [f"label {index}" for index in range(4)],
        "budgets": {
            "96": {"grid": [8, 70], "gmacs": 0.01234, "top1": 0.875, "per_class": {}, "confusion": []},
            "48": {"grid": [3, 56], "gmacs": 0.00456, "top1": 0.8125, "per_class": {}, "confusion": []},
        },
        "dataset": "/home/somebody/clips",
        "split": "test",
        "command": "flux-hf evaluate --dataset /home/somebody/clips",
        "date": "2026-11-20",
        "machine": "x86_64",
        "versions": {"python": "3.11.2", "torch": "2.14.1"},
    }
    return result | changes


def parsed(card: ModelCard) -> ModelCardData:
    """The metadata as the Hub reads it, from the text."""
    return ModelCard(str(card)).data


def test_metadata_passes_the_checks_of_the_hub_library(tiny_checkpoint, model, processor):
    card = build_model_card(
        tiny_checkpoint, "me/tiny", model, processor, evaluations=[evaluation(dataset="them/clips", revision="abc123")]
    )
    data = parsed(card)
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "video-classification")
    assert (data.datasets, data.metrics, data.model_name) == (["them/clips"], ["accuracy"], "tiny")
    results = data.eval_results
    assert [result.metric_value for result in results] == [87.5, 81.25]
    assert {(r.dataset_type, r.dataset_split, r.dataset_revision) for r in results} == {
        ("them/clips", "test", "abc123")
    }
    index = eval_results_to_model_index("tiny", results)
    assert model_index_to_eval_results(index) == ("tiny", results)
    assert data.to_dict()["model-index"] == index
    again = ModelCard(str(ModelCard(str(card))))
    assert again.data.to_dict() == data.to_dict()


def test_a_card_without_measurements(tiny_checkpoint, model, processor):
    card = build_model_card(tiny_checkpoint, "me/tiny", model, processor)
    assert "Not measured." in card.text and "## Training" not in card.text and "## Origin" not in card.text
    data = parsed(card).to_dict()
    assert not {"model-index", "datasets", "metrics", "base_model"} & data.keys()


def test_what_the_text_says(tiny_checkpoint, model, processor):
    latency = {"machine": "Some CPU, 1 thread", "milliseconds": {96: 12.34, 48: 5.0}}
    text = build_model_card(
        tiny_checkpoint, "me/tiny", model, processor, evaluations=[evaluation()], latency=latency
    ).text
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"{parameters:,}" in text
    assert "label 0, label 1, label 2, label 3" in text
    rows = [line for line in text.splitlines() if line.startswith("| 96 ") or line.startswith("| 48 ")]
    assert [row.split(" | ")[1:3] for row in rows[:2]] == [
        ["8 x 70 x 70", "96 of 200"],
        ["6 x 56 x 56", "48 of 96"],
    ]
    assert rows[0].endswith("| 12.3 |") and rows[1].endswith("| 5.0 |") and "measured on Some CPU, 1 thread" in text
    assert rows[2:] == [
        "| 96 | 8 x 70 x 70 | 96 of 200 | 87.50 | 0.0123 |",
        "| 48 | 3 x 56 x 56 | none, all 48 | 81.25 | 0.00456 |",
    ]
    assert "Unreadable, and in no figure above (1): broken.mp4." in text
    assert "clips, split test: 200 videos, 2026-11-20." in text
    assert 'model="me/tiny", trust_remote_code=True' in text and "FluxVideoClassificationPipeline" in text
    assert "2503.14237" in text and "MIT" in text
    assert "/home" not in text


def test_an_encoder_is_to_be_fine_tuned(tmp_path, processor):
    tiny_pretraining.student().save_pretrained(tmp_path)
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 7, "epoch": 2.0, "log_history": []}))
    encoder = AutoModel.from_pretrained(tmp_path)
    recipe = {"dataset": ["them/clips", "/somewhere/else"], "teacher": "them/teacher"}
    card = build_model_card(tmp_path, "me/student", encoder, processor, recipe=recipe)
    data = parsed(card)
    assert (data.pipeline_tag, data.datasets, data.metrics) == ("feature-extraction", ["them/clips"], None)
    assert "flux-hf finetune RECIPE --model me/student" in card.text
    assert 'AutoModelForVideoClassification.from_pretrained("me/student", num_labels=' in card.text
    for part in ("## Accuracy", "## How to use", "pipeline(", "| classes |", "Not measured"):
        assert part not in card.text
    assert f"| {sum(parameter.numel() for parameter in encoder.parameters()):,} |" in card.text
    assert "7 steps, 2 epochs." in card.text and "teacher: them/teacher" in card.text
    assert forward_latency(encoder, processor, [16])["milliseconds"][16] > 0


def test_tables_are_tables(tiny_checkpoint, model, processor):
    """Every row of a table follows the one before and has as many cells; no blank line cuts one in two."""
    latency = {"machine": "Some CPU", "milliseconds": {96: 1.0, 48: 1.0}}
    for options in ({}, {"latency": latency}, {"evaluations": [evaluation(), evaluation(unreadable=[])]}):
        lines = build_model_card(tiny_checkpoint, "me/tiny", model, processor, **options).text.splitlines()
        table, lengths = [], []
        for line in [*lines, ""]:
            if line.startswith("|"):
                table.append(line.count("|"))
            elif table:
                assert len(set(table)) == 1
                lengths.append(len(table))
                table = []
        assert lengths == [7, 4] + [4] * len(options.get("evaluations", []))


EVIL_NAMES = [
    "a|b",
    "first\nsecond | third",
    "\r\n---\nlicense: other",
    "`code` ``` *bold*",
    "<script>alert(1)</script> <!--",
    "[here](https://example.com)",
    "{{ 7 * 7 }} {% raw %}",
    "\x1b[31mred\x07",
    "👩‍👩‍👧 größe",
    "\u202ereversed",
    "\ud800",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_of_others_stay_names(tiny_checkpoint, model, processor, tmp_path, name):
    """Names of labels, data sets, splits and files are text: none makes or cuts a table, metadata, HTML or code."""
    (tmp_path / "conversion.json").write_text(json.dumps(CONVERSION | {"source": {"file": name, "sha256": name}}))
    plain = build_model_card(tmp_path, "me/tiny", model, processor, evaluations=[evaluation()], recipe={"a": "b"})
    model.config.id2label[1] = name
    hostile = evaluation(dataset=name, split=name, date=name, unreadable=[{"video": name, "reason": name}])
    card = build_model_card(tmp_path, "me/tiny", model, processor, evaluations=[hostile], recipe={"a": name, "b": name})
    text = str(card).encode().decode()
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| classes ")} == {3}
    rows, expected = (
        [line for line in one.splitlines() if line.startswith("|") and "classes" not in line]
        for one in (text, str(plain))
    )
    assert rows == expected
    prose = re.sub(r"(?s)(`+)(?!`).*?(?<!`)\1(?!`)", "", card.text)
    assert "<script>" not in re.sub(r"\\.", "", prose) and "](https://example.com)" not in re.sub(r"\\.", "", prose)
    assert "\x1b" not in text and "\u202e" not in text and "x" * 200 not in text.partition("yaml\n")[0]
    data = parsed(card)
    assert (data.license, data.model_name, len(data.eval_results)) == ("mit", "tiny", 2)
    assert ("👩‍👩‍👧" in text) == ("👩‍👩‍👧" in name)


def test_no_video_could_be_read(tiny_checkpoint, model, processor):
    """There is no accuracy then, and none in the metadata."""
    unread = evaluation(num_videos=0)
    unread["budgets"] = {budget: figures | {"top1": None} for budget, figures in unread["budgets"].items()}
    card = build_model_card(tiny_checkpoint, "me/tiny", model, processor, evaluations=[unread])
    assert "| 96 | 8 x 70 x 70 | 96 of 200 | – | 0.0123 |" in card.text
    assert not {"model-index", "metrics"} & parsed(card).to_dict().keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no budgets"),
        ({"budgets": []}, "has no budgets"),
        ({"budgets": {}}, "lacks dataset, split, num_videos"),
        (evaluation(budgets={"96": {"grid": [8, 70]}}), "budgets.96 lacks gmacs, top1"),
        (evaluation(budgets={"96": None}), "budgets.96 lacks grid, gmacs, top1"),
    ],
)
def test_a_file_that_is_no_evaluation(tmp_path, content, message):
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"result\.json is no result.*{message}"):
        read_evaluation(tmp_path / "result.json")


def test_training_and_origin(tiny_checkpoint, model, processor, tmp_path):
    state = {"global_step": 120, "epoch": 3.0, "log_history": [{"loss": 1.0}, {"eval_top1": 0.75, "eval_runtime": 3.1}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    (tmp_path / "conversion.json").write_text(json.dumps(CONVERSION))
    recipe = {"dataset": "them/clips", "model": "them/base", "seed": 42, "learning_rate": 0.001}
    card = build_model_card(tmp_path, "me/tiny", model, processor, recipe=recipe)
    assert "120 steps, 3 epochs; at the end eval_top1 0.75." in card.text
    assert "seed: 42" in card.text and "learning_rate: 0.001" in card.text
    assert "`official.pth` (sha256 `ab12`), taken for a InternVideo2" in card.text
    assert "2 tensors taken over, 1 resized, 0 new, 0 left out" in card.text
    assert (parsed(card).datasets, parsed(card).base_model) == (["them/clips"], "them/base")


def test_with_a_real_evaluation(tiny_checkpoint, model, processor, make_video, tmp_path):
    for label in ("label 0", "label 1"):
        make_video(f"clips/test/{label}/0.mp4", frames=4)
    (tmp_path / "clips/test/label 1/broken.mp4").write_bytes(b"no video")
    result = evaluate(load_video_dataset(tmp_path / "clips", "test"), model, processor, [96, 48], batch_size=2)
    result = json.loads(json.dumps(result | {"dataset": str(tmp_path / "clips"), "split": "test"}))
    card = build_model_card(tmp_path, "me/tiny", model, processor, evaluations=[result])
    assert "clips, split test: 2 videos." in card.text
    assert "(1): broken.mp4." in card.text
    assert [r.metric_value for r in parsed(card).eval_results] == [
        100 * result["budgets"][b]["top1"] for b in ("96", "48")
    ]


def test_latency_is_measured(model, processor):
    measured = forward_latency(model, processor, [96, 48])
    assert measured["milliseconds"].keys() == {96, 48}
    assert all(value > 0 for value in measured["milliseconds"].values())
    assert measured["machine"] == machine() and f"PyTorch {torch.__version__}" in machine()
    calls = []
    median_ms(lambda: calls.append(1), runs=3)
    assert len(calls) == 4
