"""token_budget="auto": rows that stop at different budgets have the answers of calls at these budgets."""

import itertools
import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from flux_hf import (
    FluxVideoClassificationPipeline,
    FluxVideoProcessor,
    FluxViTConfig,
    FluxViTForVideoClassification,
    FluxViTModel,
    cli,
    default_checkpoint,
    enable_flux,
)
from flux_hf.checkpoints import example_clips
from flux_hf.costs import auto_gmacs, view_gmacs
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.records import load_records
from flux_hf.modeling.adaptive_budget_fluxvit import AdaptiveBudget, adaptive_budget, added_changes
from flux_hf.modeling.token_selection_fluxvit import select_tokens, token_importance
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.scripts import classify, evaluate_checkpoint, optimize_tokens
from flux_hf.scripts.benchmarks import adaptive_budget as benchmark
from flux_hf.scripts.experiments.default_checkpoint import composed_clips
from flux_hf.token_optimization.adaptive import (
    Answers,
    Target,
    changes_gain,
    choose_thresholds,
    figures_of,
    parse_target,
    with_changes,
)
from flux_hf.training.starting_model import starting_model
from tests import stock_models
from tests.tiny_models import PATCHES_OF_8

BUDGETS = [8, 16, 32]
SETTINGS = {"token_budgets": BUDGETS, "confidences": [0.5, 0.5]}
CLIPS = list(example_clips().values())


def fluxvit(**changes) -> FluxViTForVideoClassification:
    torch.manual_seed(0)
    settings = {"head_token_budgets": [32, 16, 8], "layer_scale_init": 1.0, "initializer_range": 0.3, "num_labels": 4}
    return FluxViTForVideoClassification(FluxViTConfig(**PATCHES_OF_8 | settings | changes)).eval()


def videomae() -> torch.nn.Module:
    torch.manual_seed(0)
    model = enable_flux(stock_models.videomae(), token_budgets=[32, 16, 8], heads_per_budget=True).eval()
    for head in model._heads():
        head.classifier.weight.data.normal_()
    return model


def middle(numbers: torch.Tensor) -> float:
    """Between two of the numbers, so that no rounding decides."""
    ordered = numbers.sort().values
    return float(ordered[len(ordered) // 2 - 1 :][:2].mean())


def with_thresholds_between(model, pixels):
    """The model, with thresholds at the middle of the confidences: at every budget some rows stop."""
    with torch.no_grad():
        best = [model(pixels, token_budget=budget).logits.softmax(-1).amax(-1) for budget in BUDGETS]
    first = middle(best[0])
    second = middle(best[1][best[0] < first])
    model.flux_settings.adaptive_budget = {"token_budgets": BUDGETS, "confidences": [first, second]}
    return model


@pytest.mark.parametrize(("make", "side"), [(fluxvit, 48), (videomae, 32)])
@torch.no_grad()
def test_every_row_has_the_answer_of_its_budget(make, side):
    pixels = torch.randn(12, 4, 3, side, side, generator=torch.Generator().manual_seed(0))
    model = with_thresholds_between(make(), pixels)
    found = model(pixels, token_budget="auto")
    assert set(found.answered_budgets.tolist()) == set(BUDGETS)
    for row, budget in enumerate(found.answered_budgets.tolist()):
        alone = model(pixels[row : row + 1], token_budget=budget)
        torch.testing.assert_close(found.logits[row], alone.logits[0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.pooler_output[row], alone.pooler_output[0], atol=1e-6, rtol=1e-6)
        kept = torch.ones_like(found.keep_mask[row]) if alone.keep_mask is None else alone.keep_mask[0]
        assert found.keep_mask[row].equal(kept) and int(kept.sum()) == budget
        for smaller, confidence in zip(BUDGETS, model.flux_settings.adaptive_budget["confidences"], strict=False):
            sure = model(pixels[row : row + 1], token_budget=smaller).logits.softmax(-1).max() >= confidence
            assert bool(sure) == (smaller == budget) or smaller > budget
    as_tuple = model(pixels, token_budget="auto", return_dict=False)
    assert as_tuple[0].equal(found.logits)


@torch.no_grad()
def test_views_of_a_video_go_on_together():
    pixels = torch.randn(12, 4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    model = fluxvit()
    means = model(pixels, token_budget=8).logits.softmax(-1).unflatten(0, (4, 3)).mean(1).amax(-1)
    threshold = middle(means)
    model.config.adaptive_budget = {"token_budgets": [8, 32], "confidences": [threshold]}
    found = model(pixels, token_budget="auto", num_views=3).answered_budgets.unflatten(0, (4, 3))
    assert found.tolist() == [[8 if mean >= threshold else 32] * 3 for mean in means]
    assert len(set(found[:, 0].tolist())) == 2
    with pytest.raises(ValueError, match="num_views .* 12, got 5"):
        model(pixels, token_budget="auto", num_views=5)


def changes_by_hand(model, pixels: torch.Tensor) -> list[list[float]]:
    """Row by row what 16 tokens add to 8 and 32 to 16, from masks of calls at these budgets and one row's embedding."""
    encoder = getattr(model, "fluxvit", None)
    found = []
    for clip in pixels.split(1):
        if encoder is None:
            embedded = model.flux_encoder.embed_patches(clip)
        else:
            embedding = encoder.embeddings.patch_embedding
            embedded = embedding(embedding.patchify(clip))
        scores = token_importance(embedded).flatten().tolist()
        kept = [set(model(clip, token_budget=budget).keep_mask[0].nonzero()[:, 0].tolist()) for budget in BUDGETS]
        means = [np.mean([scores[token] for token in tokens]) for tokens in (kept[0], kept[1])]
        added = [np.mean([scores[t] for t in more - less]) for less, more in itertools.pairwise(kept)]
        found.append([a / m for a, m in zip(added, means, strict=True)])
    return found


@pytest.mark.parametrize(("make", "side"), [(fluxvit, 48), (videomae, 48)])
@torch.no_grad()
def test_what_hardly_changes_is_not_added(make, side):
    model, generator = make(), torch.Generator().manual_seed(0)
    loud = torch.linspace(0, 4, 12)[:, None, None, None, None]
    pixels = torch.randn(12, 1, 3, side, side, generator=generator) + 0.1 * torch.randn(
        12, 8, 3, side, side, generator=generator
    )
    pixels[:, :, :, :16, :16] += loud * torch.randn(12, 8, 3, 16, 16, generator=generator)
    expected = torch.tensor(changes_by_hand(model, pixels))
    limits = [middle(expected[:, 0]), float(expected[:, 1].quantile(0.7, interpolation="midpoint"))]
    settings = {"token_budgets": BUDGETS, "confidences": [1.0, 1.0], "changes": limits}
    model.flux_settings.adaptive_budget = settings
    found = model(pixels, token_budget="auto")
    torch.testing.assert_close(found.changes, expected, check_dtype=False)
    places = [0 if first < limits[0] else 1 if second < limits[1] else 2 for first, second in expected.tolist()]
    assert found.answered_budgets.tolist() == [BUDGETS[place] for place in places] and set(places) == {0, 1, 2}
    for row, budget in enumerate(found.answered_budgets.tolist()):
        alone = model(pixels[row : row + 1], token_budget=budget)
        torch.testing.assert_close(found.logits[row], alone.logits[0], atol=1e-6, rtol=1e-6)
        assert model(pixels[row : row + 1], token_budget="auto").changes.equal(found.changes[row : row + 1])
    means = expected.unflatten(0, (4, 3)).mean(1)
    limit = middle(means[:, 0])
    model.flux_settings.adaptive_budget = settings | {"changes": [limit, None]}
    of_views = model(pixels, token_budget="auto", num_views=3).answered_budgets.unflatten(0, (4, 3)).tolist()
    assert of_views == [[8 if mean < limit else 32] * 3 for mean in means[:, 0].tolist()]
    for off in (None, [None, None]):
        model.flux_settings.adaptive_budget = settings | {"changes": off}
        assert model(pixels, token_budget="auto").answered_budgets.tolist() == [32] * 12


def test_changes_that_are_no_number():
    scores = torch.tensor([[[1.0, 1.0, 0.5, 0.0]], [[0.0] * 4], [[math.inf, 1.0, 1.0, 1.0]]])
    first, second = torch.tensor([True, False, False, False]), torch.tensor([True, True, True, False])
    masks = [mask.expand(3, 4) for mask in (first, second)]
    found = added_changes(scores, [*masks, None, None])
    assert found[0].tolist()[:2] == [0.75, 0.0] and found[1].tolist()[:2] == [0.0, 0.0]
    assert found[:, 2].isnan().all() and found[2, 0] == 0
    with torch.no_grad():  # every budget keeps all tokens
        assert fluxvit(adaptive_budget=SETTINGS)(torch.randn(1, 1, 3, 16, 16), token_budget="auto").changes is None


@torch.no_grad()
def test_a_grid_without_more_tokens_ends_the_search():
    model = fluxvit(adaptive_budget={"token_budgets": BUDGETS, "confidences": [1.0, 1.0]})
    pixels = torch.randn(2, 1, 3, 32, 24)  # 12 tokens
    found = model(pixels, token_budget="auto")
    assert found.answered_budgets.tolist() == [16, 16] and found.keep_mask.all()
    torch.testing.assert_close(found.logits, model(pixels, token_budget=16).logits)
    only = fluxvit(adaptive_budget={"token_budgets": [16, 32], "confidences": [1.0]})
    assert only(pixels, token_budget="auto").keep_mask is None


@pytest.mark.parametrize("make", [fluxvit, videomae])
@torch.no_grad()
def test_gmacs_are_what_torch_counts(make):
    """Patches are embedded once, and the encoder runs at every budget up to the one that answers."""
    model = make()
    model.flux_settings.adaptive_budget = {"token_budgets": BUDGETS, "confidences": [1.0, 1.0]}
    grid = Grid(4, 48) if make is fluxvit else Grid(4, 32)
    pixels = torch.randn(1, 4, 3, *grid.pixels())
    model(pixels, token_budget="auto")  # keeps the positions of the grid
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(pixels, token_budget="auto")
    assert counter.get_total_flops() == pytest.approx(2e9 * auto_gmacs(model, 32, grid))
    model.flux_settings.adaptive_budget |= {"changes": [1e9, None]}  # goes nowhere
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(pixels, token_budget="auto")
    assert counter.get_total_flops() == pytest.approx(2e9 * auto_gmacs(model, 8, grid))
    assert auto_gmacs(model, 8, grid) == view_gmacs(model, 8, grid)
    assert auto_gmacs(model, 32, grid) < sum(view_gmacs(model, budget, grid) for budget in BUDGETS)


@pytest.mark.parametrize(
    ("change", "options", "word"),
    [
        ({"adaptive_budget": None}, {}, "flux-hf optimize-tokens --objective adaptive"),
        ({"problem_type": "regression"}, {}, "problem_type regression"),
        ({}, {"labels": torch.tensor([0])}, "excludes labels"),
        ({}, {"head_index": 0}, "excludes head_index"),
        ({}, {"token_budgets": [8]}, "excludes token_budgets"),
        ({}, {"output_hidden_states": True}, "excludes output_hidden_states"),
        ({"output_attentions": True}, {}, "excludes output_attentions"),
    ],
)
def test_what_does_not_fit_is_said(change, options, word):
    model = fluxvit(**{"adaptive_budget": SETTINGS, "attn_implementation": "eager"} | change)
    with pytest.raises(ValueError, match=word):
        model(torch.randn(1, 4, 3, 48, 48), token_budget="auto", **options)


def test_training_export_and_encoders_refuse():
    model, pixels = fluxvit(adaptive_budget=SETTINGS), torch.randn(1, 4, 3, 48, 48)
    with pytest.raises(ValueError, match="cannot be compiled or exported"):
        torch.export.export(model, (pixels,), {"token_budget": "auto"}, strict=False)
    # Older versions of torch name the error that they came upon, and not its message.
    with pytest.raises(Exception, match="cannot be compiled or exported|raised exception .*ValueError"):
        torch.compile(model, backend="eager", fullgraph=True)(pixels, token_budget="auto")
    with pytest.raises(ValueError, match="is for classifiers"):
        FluxViTModel(model.config)(pixels, token_budget="auto")
    with pytest.raises(ValueError, match="model.eval"):
        model.train()(pixels, token_budget="auto")


@pytest.mark.parametrize(
    "settings",
    [
        *({}, [], 7, "auto", {"token_budgets": BUDGETS}, SETTINGS | {"more": 1}),
        *(SETTINGS | {"confidences": wrong} for wrong in ([0.5], [0.5, math.nan], [0.5, 1.1], [0.5, -1], [True, 0.5])),
        *(SETTINGS | {"confidences": wrong} for wrong in (0.5, None, [None, 0.5], ["0.5", 0.5], [[0.5], 0.5])),
        *(SETTINGS | {"token_budgets": wrong} for wrong in ([16, 8, 32], [8, 8, 32], [0, 8, 16], [8, 16, 10**9])),
        *(SETTINGS | {"token_budgets": wrong} for wrong in (None, 8, "8", [8.0, 16, 32], [True, 16, 32])),
        *(SETTINGS | {"changes": wrong} for wrong in ([0.5], [0.5, math.nan], [0.5, math.inf], [-0.1, None], 0.5)),
        *(SETTINGS | {"changes": wrong} for wrong in ([True, None], ["0.5", None], [[0.5], None], [None] * 10**5)),
        {"token_budgets": [8], "confidences": []},
        {"token_budgets": list(range(1, 10**5)), "confidences": [0.5] * (10**5 - 2)},
    ],
)
def test_settings_that_are_none(settings):
    for make in (FluxViTConfig, lambda **given: fluxvit().config.update(given)):
        with pytest.raises(ValueError, match="adaptive_budget") as error:
            make(adaptive_budget=settings)
        assert len(str(error.value)) < 500
    for right in (SETTINGS, SETTINGS | {"changes": None}, SETTINGS | {"changes": [None, 0.25]}):
        model = fluxvit(adaptive_budget=right)
        assert FluxViTConfig.from_dict(model.config.to_dict()).adaptive_budget == right
    model.config.__dict__["adaptive_budget"] = settings  # past every check
    with pytest.raises(ValueError):
        model(torch.randn(1, 4, 3, 48, 48), token_budget="auto")


def test_other_classes_or_heads_are_not_calibrated():
    for change in (
        lambda model: model.set_token_budgets([32, 16]),
        lambda model: model.set_labels(["a", "b"]),
        lambda model: model.set_labels(["a", "b", "c", "d"], [3, 2, 1, 0]),
    ):
        model = fluxvit(adaptive_budget=SETTINGS)
        change(model)
        assert model.config.adaptive_budget is None
    model = fluxvit(adaptive_budget=SETTINGS)
    model.set_labels(["a", "b", "c", "d"], [0, 1, 2, 3])
    assert model.config.adaptive_budget == SETTINGS
    names = FluxViTForVideoClassification.from_pretrained(default_checkpoint()).label_names
    assert starting_model(names, checkpoint="default").config.adaptive_budget is None


def test_the_processor_makes_one_grid_and_hands_auto_over(tmp_path):
    table = {64: (2, 32), 128: (4, 48)}
    processor = FluxVideoProcessor(patch_size=8, grids=table)
    assert processor.choose_grid("auto") == (4, 48)
    assert FluxVideoProcessor(patch_size=14).choose_grid("auto") == FluxVideoProcessor(patch_size=14).choose_grid(3072)
    own = FluxVideoProcessor(patch_size=8, grids=table | {"auto": (4, 32)}, token_budget="auto")
    own.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert loaded.grids == {128: (4, 48), 64: (2, 32), "auto": (4, 32)} and loaded.token_budget == "auto"
    assert loaded.choose_grid(64) == (2, 32) and loaded.choose_grid(60).frames == 2
    batch = loaded(CLIPS[:2], return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (2, 4, 3, 32, 32) and batch["token_budget"] == "auto"
    assert FluxVideoProcessor(patch_size=8, grids={"auto": (4, 32)}).choose_grid("auto") == (4, 32)
    for wrong in ("Auto", "x", 0, 1.5):
        with pytest.raises(ValueError, match="token_budget"):
            processor(CLIPS[0], token_budget=wrong)
    with pytest.raises(ValueError, match='"auto" or a token budget'):
        FluxVideoProcessor(patch_size=8, grids={"other": (4, 32)})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The default one, with a threshold between the confidences of the example clips, and "auto" in its processor."""
    folder = tmp_path_factory.mktemp("auto")
    model = FluxViTForVideoClassification.from_pretrained(default_checkpoint()).eval()
    processor = FluxVideoProcessor.from_pretrained(default_checkpoint())
    with torch.no_grad():
        best = model(**processor(CLIPS, token_budget=64, return_tensors="pt")).logits.softmax(-1).amax(-1)
    model.config.adaptive_budget = {"token_budgets": [64, 256], "confidences": [middle(best)]}
    model.save_pretrained(folder)
    processor.token_budget = "auto"
    processor.save_pretrained(folder)
    return folder


@pytest.mark.long
def test_pipelines_answer_with_it(checkpoint):
    model = AutoModelForVideoClassification.from_pretrained(checkpoint).eval()
    processor = AutoVideoProcessor.from_pretrained(checkpoint)
    with torch.no_grad():
        found = model(**processor(CLIPS, return_tensors="pt"))
    assert set(found.answered_budgets.tolist()) == {64, 256}
    expected = found.logits.softmax(-1).amax(-1).tolist()
    stock = pipeline("video-classification", model=str(checkpoint))
    assert [answer[0]["score"] for answer in stock(CLIPS)] == pytest.approx(expected, abs=1e-5)
    own = FluxVideoClassificationPipeline(model=model, video_processor=processor)
    assert [answer[0]["score"] for answer in own(CLIPS, batch_size=4)] == pytest.approx(expected, abs=1e-5)
    several = own(CLIPS[:3], token_budget="auto", num_clips=2)
    assert [answer[0]["label"] for answer in several] == [answer[0]["label"] for answer in own(CLIPS[:3])]
    with pytest.raises(ValueError, match='token_budget must be an integer >= 1 or "auto"'):
        own(CLIPS[0], token_budget="best")


@pytest.mark.long
def test_classify_names_the_budget_that_answered(checkpoint, capsys):
    classify.main([*map(str, CLIPS), "--checkpoint", str(checkpoint), "--token_budgets", "auto", "64"])
    printed = capsys.readouterr().out
    assert printed.count("budget auto (64 answered)") + printed.count("budget auto (256 answered)") == len(CLIPS)
    assert "budget auto (256 answered)" in printed and "budget   64: " in printed
    with pytest.raises(ValueError, match="--token_budgets must be at least 1, got 0"):
        classify.main([str(CLIPS[0]), "--token_budgets", "0"])
    with pytest.raises(SystemExit):
        classify.main([str(CLIPS[0]), "--token_budgets", "most"])


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """The example clips as validation and test split, the classes in their names."""
    root = tmp_path_factory.mktemp("clips")
    for split, suffix in (("validation", b"\0\0\0\x08free"), ("test", b"")):
        for label, clip in example_clips().items():
            path = root / split / label / "clip.mp4"
            path.parent.mkdir(parents=True)
            with open(clip, "rb") as file:
                path.write_bytes(file.read() + suffix)  # an empty box: other bytes, the same film
    return root


@pytest.mark.long
def test_evaluation_of_auto(checkpoint, dataset_dir, tmp_path, capsys):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(checkpoint)
    dataset = load_video_dataset(dataset_dir, "test")
    result = evaluate(dataset, model, processor, [256, 64, "auto"], records_dir=tmp_path / "records", batch_size=4)
    auto = result["budgets"]["auto"]
    with torch.no_grad():
        one_by_one = [
            int(model(**processor(video["bytes"] or video["path"], return_tensors="pt")).answered_budgets)
            for video in dataset["video"]
        ]
    assert auto["answered"] == {64: one_by_one.count(64), 256: one_by_one.count(256)}
    expected = np.mean([auto_gmacs(model, budget, processor.choose_grid("auto")) for budget in one_by_one])
    assert auto["gmacs"] == pytest.approx(expected)
    assert result["budgets"][64]["gmacs"] < auto["gmacs"]
    several = evaluate(dataset, model, processor, ["auto"], num_clips=2, batch_size=3)
    assert sum(several["budgets"]["auto"]["answered"].values()) == len(dataset)
    model.config.adaptive_budget = {"token_budgets": [64, 256], "confidences": [1.0]}
    with pytest.raises(ValueError, match="adaptive_budget"):
        evaluate(dataset, model, processor, [256, 64, "auto"], records_dir=tmp_path / "records")
    with pytest.raises(ValueError, match="at random"):
        evaluate(dataset, model, processor, ["auto"], token_selection="random")
    model.config.adaptive_budget = None
    with pytest.raises(ValueError, match="not calibrated"):
        evaluate(dataset, model, processor, ["auto"])
    output = tmp_path / "result.json"
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--token_budgets", "64", "auto"]
    evaluate_checkpoint.main([*command, "--output", str(output)])
    assert "auto, answered at: 64 tokens" in capsys.readouterr().out
    written = json.loads(output.read_text())["budgets"]["auto"]
    assert written["answered"] == {str(budget): count for budget, count in auto["answered"].items()}


def some_answers(videos: int = 40) -> Answers:
    draw = np.random.default_rng(0)
    confidence = np.round(draw.uniform(0.3, 1, (3, videos)), 3)
    right = draw.uniform(size=(3, videos)) < np.maximum(confidence, np.array([[0.3], [0.6], [0.9]]))
    changes = np.random.default_rng(1).uniform(size=(2, videos))
    return Answers((8, 16, 32), (8, 16, 32), right, confidence, changes, 0.5, (1.0, 2.0, 4.0))


@pytest.mark.parametrize("target", [Target(2.5, "points"), Target(0.0, "points"), Target(3.0, "gmacs")])
def test_thresholds_are_the_best_that_keep_to_the_target(target):
    """Compared with all that there are, video by video."""
    answers = some_answers()
    chosen, figures = choose_thresholds(answers, target)
    places = [answers.token_budgets.index(budget) for budget in chosen.token_budgets]

    def outcome(places, confidences):
        top1, lost, cost = [], [], []
        for video in range(answers.right.shape[1]):
            spent = answers.embedding_gmacs
            for place, least in zip(places, [*confidences, 0.0], strict=True):
                spent += answers.encoder_gmacs[place]
                if answers.confidence[place, video] >= least:
                    break
            top1.append(answers.right[place, video])
            lost.append(answers.right[2, video] and not answers.right[place, video])
            cost.append(spent)
        return np.mean(top1), np.mean(lost), np.mean(cost)

    top1, lost, gmacs = outcome(places, chosen.confidences)
    assert [figures[name] for name in ("top1", "lost", "gmacs")] == pytest.approx([top1, lost, gmacs])
    assert lost <= target.value / 100 + 1e-9 if target.unit == "points" else gmacs <= target.value
    for steps in ([0, 1], [0, 2], [1, 2]):
        for threshold in answers.confidence[steps[0]]:
            other_top1, other_lost, other_gmacs = outcome(steps, [threshold])
            if target.unit == "points":
                assert other_lost > target.value / 100 + 1e-9 or other_gmacs >= gmacs - 1e-9
            else:
                assert other_gmacs > target.value or other_top1 <= top1 + 1e-9


def outcome_by_hand(answers: Answers, settings: AdaptiveBudget) -> list[tuple[bool, int, float]]:
    """Video by video whether the answer is right, its budget and its GMACs; every budget is one of the settings'."""
    found = []
    for video in range(answers.right.shape[1]):
        place, cost = 0, answers.embedding_gmacs + answers.encoder_gmacs[0]
        while place < 2 and answers.confidence[place, video] < settings.confidences[place]:
            limit = settings.changes and settings.changes[place]
            if limit is not None and answers.changes[place, video] < limit:
                break
            place += 1
            cost += answers.encoder_gmacs[place]
        found.append((bool(answers.right[place, video]), place, cost))
    return found


def test_changes_lose_no_video_and_are_the_most_that_lose_none():
    answers = some_answers(200)
    answers.right[:2][answers.changes < [[0.2], [0.3]]] = True  # more tokens make nothing better
    without = AdaptiveBudget((8, 16, 32), (0.7, 0.8))
    chosen = with_changes(answers, without)
    before, after = outcome_by_hand(answers, without), outcome_by_hand(answers, chosen)
    assert all(with_it or not right for (right, *_), (with_it, *_) in zip(before, after, strict=True))
    assert np.mean([cost for *_, cost in after]) < np.mean([cost for *_, cost in before])
    figures = figures_of(answers, chosen)
    assert figures["top1"] == pytest.approx(np.mean([right for right, *_ in after]))
    assert figures["gmacs"] == pytest.approx(np.mean([cost for *_, cost in after]))
    first, last = chosen.changes
    assert 0.19 < first < 0.3 and 0.29 < last < 0.5
    for larger in np.unique(answers.changes[1][answers.changes[1] > last + 1e-4]):
        more = outcome_by_hand(answers, replace(without, changes=(None, float(larger) + 1e-9)))
        if any(right and not still for (right, *_), (still, *_) in zip(before, more, strict=True)):
            break
        assert [place for _, place, _ in more] == [
            place for _, place, _ in outcome_by_hand(answers, replace(without, changes=(None, last)))
        ]
    # Clips unlike those of the training choose among the limits that lose nothing.
    unlike = some_answers(200)
    unlike.right[1] = unlike.changes[1] < 0.1
    unlike.right[2] = ~unlike.right[1]
    alike = replace(answers, right=np.ones_like(answers.right))
    assert 0.09 < with_changes(alike, without, unlike).changes[1] < 0.15
    unlike.right[1], unlike.right[2] = True, False  # more tokens are always noise
    assert with_changes(answers, without, unlike).changes[1] == last
    few = some_answers(8)  # too few to say that none is lost
    assert with_changes(few, without) == without


def test_changes_from_a_budget_to_one_after_the_next():
    scores = torch.rand(20, 1, 64, generator=torch.Generator().manual_seed(0)) ** 3
    masks = [select_tokens(scores, budget) for budget in BUDGETS]
    direct = added_changes(scores, [masks[0], masks[2]])[:, 0].numpy()
    counts = np.ones((3, 20), bool), np.full((3, 20), 0.5), added_changes(scores, masks).numpy().T
    answers = Answers((8, 16, 32), (8, 16, 32), *counts, 0.5, (1.0, 2.0, 4.0))
    # Whatever is answered at 8 tokens is right there, too: the limit is the largest change, rounded down.
    chosen = with_changes(answers, AdaptiveBudget((8, 32), (1.0,)))
    assert chosen.changes[0] == pytest.approx(direct.max(), abs=1e-4) and chosen.changes[0] <= direct.max()


def test_targets():
    assert parse_target("0.5 points") == Target(0.5, "points") and parse_target("1point") == Target(1, "points")
    assert parse_target(" .16 GMACs") == Target(0.16, "gmacs")
    for wrong in ("", "0.5", "-1 points", "0.5 percent", "points", "nan points"):
        with pytest.raises(ValueError, match="0.5 points"):
            parse_target(wrong)
    with pytest.raises(ValueError, match="the least are 1.5 GMACs"):
        choose_thresholds(some_answers(), Target(0.1, "gmacs"))


@pytest.mark.long
def test_the_command_calibrates_a_checkpoint(checkpoint, dataset_dir, tmp_path, capsys):
    before = (checkpoint / "config.json").read_bytes()
    output = tmp_path / "calibrated"
    command = ["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output_dir", str(output)]
    command += ["--objective", "adaptive", "--token_budgets", "64", "256", "--target", "100 points"]
    optimize_tokens.main(command)
    assert (checkpoint / "config.json").read_bytes() == before
    result = json.loads((output / "result.json").read_text())
    assert adaptive_budget(result["adaptive_budget"]).token_budgets == (64, 256)
    assert result["test"]["budgets"]["auto"]["answered"] == {"64": 9}  # any loss is allowed: the cheapest
    assert set(result["test"]["budgets"]) == {"256", "64", "auto"} and result["splits"]["test"] == "test"
    optimize_tokens.main([*command, "--write"])
    assert "calibration did not see" in capsys.readouterr().out
    assert FluxViTConfig.from_pretrained(checkpoint).adaptive_budget == result["adaptive_budget"]
    assert FluxVideoProcessor.from_pretrained(checkpoint).grids["auto"] == (8, 128)
    optimize_tokens.main([*command, "--target", "1 point"])
    assert "9 videos are few for 1 points: one of them is 11 points" in capsys.readouterr().err
    for extra, word in (
        (["--frames", "4"], "--frames"),
        (["--target", "half"], "--target half"),
        (["--score", "retrieval"], "--score"),
        (["--token_budgets", "64"], "at least two"),
    ):
        with pytest.raises(ValueError, match=word):
            optimize_tokens.main([*command, *extra])
    with pytest.raises(ValueError, match="--target is for --objective adaptive"):
        optimize_tokens.main([*command, "--objective", "tokens"])
    with pytest.raises(ValueError, match="--unlike is for --objective adaptive"):
        optimize_tokens.main([*command[:-2], "--unlike", str(dataset_dir), "--objective", "tokens"])
    optimize_tokens.main([*command, "--unlike", str(dataset_dir)])
    assert json.loads((output / "result.json").read_text())["calibration"]["videos_unlike"] == 9


@pytest.mark.slow
def test_the_page_runs_as_it_stands(dataset_dir, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs" / "adaptive_budget.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dataset_dir, "my/videos")
    shutil.copytree(default_checkpoint(), "runs/mine")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "adaptive_budget.md", "exec"), {"__name__": "example"})
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 9 and all(re.fullmatch(r"\w+ at (64|128|256) tokens", line) for line in answers)
    for command in re.findall(r"^flux-hf (.*)$", page, re.MULTILINE):
        cli.main(shlex.split(command))
    assert "9 of 9 times" in capsys.readouterr().out
    found = json.loads(Path("runs/mine/config.json").read_text())["adaptive_budget"]
    assert found == json.loads(Path("runs/auto/result.json").read_text())["adaptive_budget"]


@pytest.mark.slow
def test_what_a_look_at_changes_gains(checkpoint, tmp_path):
    """On composed clips, by the experiment's own command."""
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    model.config.adaptive_budget |= {"confidences": [1.0], "changes": [0.35]}
    model.save_pretrained(checkpoint / "changes")
    FluxVideoProcessor.from_pretrained(default_checkpoint()).save_pretrained(checkpoint / "changes")
    command = ["--data", str(tmp_path / "clips"), "--output", str(tmp_path / "result.json"), "--clips", "18"]
    command += ["--checkpoint", str(checkpoint / "changes"), "--records_dir", str(tmp_path / "records")]
    composed_clips.main(command)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["num_videos"] == 18 and not result["unreadable"]
    records = load_records(tmp_path / "records" / "with")
    stopped = [record["arms"][-1]["changes"][0] < 0.35 for record in records]
    answered = result["budgets"]["auto"]["answered"]
    assert answered == {"64": sum(stopped), "256": 18 - sum(stopped)} and 0 < sum(stopped) < 18
    without = result["without_changes"]
    assert without["answered"] == {"256": 18} and without["gmacs"] > result["budgets"]["auto"]["gmacs"]
    gained = 18 * (result["budgets"]["auto"]["top1"] - without["top1"])
    assert without["with_alone"] - without["without_alone"] == pytest.approx(gained)
    assert "right with it alone" in changes_gain(result)


@pytest.mark.slow
def test_the_benchmark(dataset_dir, tmp_path):
    output = tmp_path / "adaptive_budget.json"
    command = ["--data", str(dataset_dir), "--output", str(output), "--timed", "3", "--repeats", "1"]
    benchmark.main([*command, "--batch_sizes", "2"])
    result = json.loads(output.read_text())
    assert result["num_videos"] == 9 and set(result["budgets"]) == {"256", "128", "64", "auto"}
    assert [row["budget"] for row in result["times"]] == [256, 128, 64, "auto"]
    assert all(row["milliseconds"] > 0 and row["batch_size"] == 2 for row in result["times"])
    assert result["budgets"]["64"]["gmacs"] <= result["budgets"]["auto"]["gmacs"] < result["budgets"]["256"]["gmacs"]
