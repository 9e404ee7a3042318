import json

import pytest
import torch

from flux_hf.processing.prompt_templates_fluxvit import PROMPT_TEMPLATES
from flux_hf.scripts.evaluate_checkpoint import main
from flux_hf.scripts.optimize_tokens import main as optimize_tokens
from flux_hf.text.loading import load_clip
from flux_hf.text.pairs import load_pairs
from flux_hf.text.retrieval_evaluation import evaluate_retrieval
from flux_hf.text.zero_shot import labelled_by_captions, retrieval_classifier, templates_of
from flux_hf.token_optimization import search_grids
from tests.tiny_search import captioned_videos, save_searching, write_noise

LABELS = ["dark_noise", "bright square", "large video"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_searching(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Seven videos of three classes."""
    root = tmp_path_factory.mktemp("labelled")
    for number in range(7):
        write_noise(root / "test" / LABELS[number % 3] / f"{number}.mp4", number)
    return root


@pytest.mark.long
@pytest.mark.parametrize("templates", [[], ["a {} moves", "the {}"]])
def test_zero_shot_answers_like_the_pipeline(labelled, checkpoint, tmp_path, capsys, templates):
    from transformers import pipeline

    command = [
        "--dataset",
        str(labelled),
        "--checkpoint",
        str(checkpoint),
        "--zero_shot",
        "--token_budgets",
        "64",
        "16",
    ]
    output = tmp_path / "zero_shot.json"
    main([*command, "--output", str(output), *(["--templates", *templates] if templates else [])])
    result = json.loads(output.read_text())
    assert "chance 33.3" in capsys.readouterr().out
    assert result["templates"] == (templates or ["a video of {}"])
    classify = pipeline("zero-shot-video-classification", model=str(checkpoint))
    names = [name.replace("_", " ") for name in LABELS]
    for budget in (64, 16):
        hits = []
        for path in sorted(labelled.rglob("*.mp4")):
            options = {"candidate_labels": names, "hypothesis_template": templates or None, "token_budget": budget}
            hits.append(classify(str(path), **options)[0]["label"] == path.parent.name.replace("_", " "))
        figures = result["budgets"][str(budget)]
        assert figures["top1"] == pytest.approx(sum(hits) / 7) and sum(map(sum, figures["confusion"])) == 7


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--templates", "kinetics"], "^--templates is for --zero_shot$"),
        (["--zero_shot", "--templates", "a video"], "^--templates a video: a template needs one {}"),
        ([], "^--checkpoint .*: it compares videos with sentences and has no classes of its own"),
    ],
)
def test_what_does_not_go_together(labelled, checkpoint, option, message):
    with pytest.raises(ValueError, match=message):
        main(["--dataset", str(labelled), "--checkpoint", str(checkpoint), *option])


def test_numbers_are_no_names(checkpoint, tmp_path):
    write_noise(tmp_path / "a.mp4", 0)
    (tmp_path / "test.csv").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match="needs names of the labels, and the data set has numbers only"):
        main(["--dataset", str(tmp_path), "--checkpoint", str(checkpoint), "--zero_shot"])


def test_retrieval_as_a_score_is_recall_from_video_to_text(checkpoint, tmp_path):
    captions = [["a square"], ["large noise", "noise moves"], ["bright noise turns"], ["a small video"]]
    dataset = load_pairs(captioned_videos(tmp_path, captions), "test")
    model, processor = load_clip(checkpoint)
    labels = labelled_by_captions(dataset)
    classifier = retrieval_classifier(model, processor, labels)
    hits = []
    for row in labels:
        inputs = processor.video_processor(row["video"]["path"], token_budget=32, return_tensors="pt")
        with torch.no_grad():
            hits.append(int(classifier(**inputs).logits.argmax()) == row["label"])
    figures = evaluate_retrieval(dataset, model, processor, [32])["budgets"][32]["video_to_text"]
    assert figures["r1"] == pytest.approx(sum(hits) / 4)


def test_grids_are_searched_by_what_is_retrieved(checkpoint, tmp_path):
    """Every grid on every video, which the retrieval classifier alone judges in the same way."""
    captions = [["a square"], ["large noise", "noise moves"], ["bright noise turns"], ["a small video"]]
    dataset = labelled_by_captions(load_pairs(captioned_videos(tmp_path, captions), "test"))
    model, processor = load_clip(checkpoint)
    judge = retrieval_classifier(model, processor, dataset)
    found = search_grids(dataset, judge, processor.video_processor, [16], [2, 4], [32], rounds=1, objective="gmacs")
    assert len(found["budgets"][16]["grids"]) == 2
    for entry in found["budgets"][16]["grids"]:
        hits = []
        for row in dataset:
            frames, size = entry["grid"]
            options = {"num_frames": frames, "size": size, "crop_size": size, "token_budget": 16}
            inputs = processor.video_processor(row["video"]["path"], return_tensors="pt", **options)
            with torch.no_grad():
                hits.append(int(judge(**inputs).logits.argmax()) == row["label"])
        assert entry["right"] == sum(hits) and entry["cost"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("score", ["zero_shot", "retrieval"])
def test_token_optimization_with_words(checkpoint, labelled, tmp_path, capsys, score):
    folder = captioned_videos(tmp_path / "pairs", [[f"{word} noise"] for word in "dark bright grey small".split()])
    own = save_searching(tmp_path / "own")
    dataset, split = (labelled, "test") if score == "zero_shot" else (folder, "test")
    command = ["--dataset", str(dataset), "--checkpoint", str(own), "--output_dir", str(tmp_path / "grids")]
    command += ["--calibration_split", split, "--score", score, "--token_budgets", "16", "--rounds", "2"]
    before = json.loads((own / "processor_config.json").read_text())
    optimize_tokens([*command, "--frames", "2", "4", "--sizes", "32", "48", "--write"])
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "grids" / "result.json").read_text())
    assert result["score"] == score and ("R@1 video to text" in said) == (score == "retrieval")
    grid = result["budgets"]["16"]["grid"]
    assert len(result["budgets"]["16"]["grids"]) == 4
    after = json.loads((tmp_path / "grids" / "processor_after" / "processor_config.json").read_text())
    assert after["video_processor"]["grids"] == before["video_processor"]["grids"] | {"16": grid}
    written = json.loads((own / "processor_config.json").read_text())
    if "is as it was" in said:
        assert written == before
    else:
        assert written["video_processor"]["grids"]["16"] == grid
        assert json.loads((own / "processor_config.before.json").read_text()) == before
    _, processor = load_clip(own)
    assert processor.video_processor.choose_grid(16) == tuple(written["video_processor"]["grids"]["16"])


def test_the_name_of_a_set_stands_for_its_templates():
    assert templates_of(["kinetics"]) == PROMPT_TEMPLATES["kinetics"] and len(templates_of(["kinetics"])) == 16
    with pytest.raises(ValueError, match="got 'kinetics'"):
        templates_of(["kinetics", "a {}"])
