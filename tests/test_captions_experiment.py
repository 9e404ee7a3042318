"""The experiment with captions that compose: what is held out, what is said, what is shown, and its tables."""

import json

import numpy as np
import pytest

from flux_hf import FluxVideoProcessor, FluxViTClipModel, FluxViTClipProcessor, FluxViTConfig, FluxViTModel
from flux_hf.scripts.experiments.captions import report
from flux_hf.scripts.experiments.captions.baselines import fact_scores, figures
from flux_hf.scripts.experiments.captions.clips import DEGREES, LENGTHS, RGB, clip_spec, facts_of
from flux_hf.scripts.experiments.captions.compare import (
    PATCH,
    TUBELET,
    CaptionOptions,
    arguments,
    budgets,
    opposites,
    recalls,
    small_bert,
    zero_shot,
)
from flux_hf.scripts.experiments.captions.manipulation import TASKS
from flux_hf.scripts.experiments.captions.manipulation import figures as task_figures
from flux_hf.scripts.experiments.captions.new_words import KNOWN, NEW, sentence
from flux_hf.scripts.experiments.captions.words import (
    COLOURS,
    HELD_OUT,
    MOTIONS,
    SHAPES,
    Facts,
    caption,
    captions,
    combinations,
    tokenizer,
)
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.text.embedding import embed_texts
from flux_hf.training.grids import training_grids
from tests.tiny_models import PATCHES_OF_14


def test_no_training_clip_shows_what_is_held_out():
    train, validation, test = (facts_of(split, 300, 0) for split in ("train", "validation", "test"))
    assert len(train) == 300 and not [facts for facts in (*train, *validation) if facts.held_out]
    assert {facts.motion for facts in train} == set(MOTIONS) and {facts.shape for facts in train} == set(SHAPES)
    assert {motion for motion, _ in HELD_OUT} == set(MOTIONS) and {colour for _, colour in HELD_OUT} == set(COLOURS)
    assert test[:256] == combinations() and all(facts.held_out for facts in test[256:])
    assert train != facts_of("train", 300, 1)


def test_sentences_tell_all_facts_apart_in_known_words():
    words, said = tokenizer(), {}
    for facts in combinations():
        for text in captions(facts, np.random.default_rng(0), count=6):
            assert facts.colour in text and facts.shape in text
            assert words.unk_token_id not in words(text)["input_ids"]
            assert said.setdefault(text, facts) == facts


@pytest.mark.parametrize("speed", DEGREES)
@pytest.mark.parametrize("motion", ["turns_clockwise", "turns_counterclockwise"])
def test_clips_turn(motion, speed):
    """The bar's long axis, between neighbouring frames, summed over the clip."""
    facts = Facts(motion, "bar", "green", speed)
    axes = []
    for frame in render_frames(clip_spec(facts, (0, 0, 5))):
        rows, columns = np.nonzero(np.abs(frame.astype(int) - RGB["green"]).sum(-1) < 90)
        spread = np.cov(columns, rows)
        axes.append(0.5 * np.arctan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1]))
    steps = (np.diff(axes) + np.pi / 2) % np.pi - np.pi / 2
    turned = np.degrees(steps.sum()) * (1 if motion == "turns_clockwise" else -1)
    assert DEGREES[speed][0] - 10 < turned < DEGREES[speed][1] + 10


@pytest.mark.parametrize(
    "facts", [Facts("moves_left", "cross", "red", "fast"), Facts("recedes", "bar", "blue", "slowly")]
)
def test_clips_show_their_facts(facts):
    spec = clip_spec(facts, (0, 0, 3))
    first, *_, last = (frame.astype(int) for frame in render_frames(spec))
    colour = np.abs(np.stack([first, last]) - RGB[facts.colour]).sum(-1) < 90
    (before, after) = (np.argwhere(shown) for shown in colour)
    if facts.motion == "recedes":
        assert len(before) > 1.3 * len(after) > 100
    else:
        moved = (before.mean(0) - after.mean(0))[1] / spec.width
        assert moved == pytest.approx(np.mean(LENGTHS["fast"]), abs=0.15)


def test_both_regimes_cost_about_the_same(tmp_path):
    of_regime = {regime: arguments(CaptionOptions("x"), regime, str(tmp_path)) for regime in ("flux", "fixed")}
    assert [len(training_grids(args, (TUBELET, PATCH))) for args in of_regime.values()] == [5, 1]
    assert (
        [args.token_budgets for args in of_regime.values()] == [budgets()[1:], budgets()[:1]] == [[72, 36, 18], [144]]
    )
    assert of_regime["flux"].max_steps == of_regime["fixed"].max_steps


def test_figures_of_clips_that_are_as_their_sentences():
    """Embeddings of clips that are those of their captions, or of the captions with the opposite motion. Half of them
    say the opposite, for which nothing of it is right."""
    words = tokenizer()
    text = small_bert(words)
    model = FluxViTClipModel.from_towers(FluxViTModel(FluxViTConfig(**PATCHES_OF_14)), text, projection_dim=128)
    processor = FluxViTClipProcessor(FluxVideoProcessor(), words)
    facts = combinations()
    true, opposite = (
        embed_texts(model, processor, [caption(of) for of in said]) for said in (facts, [of.opposite() for of in facts])
    )
    assert recalls(model, processor, true, facts) == {"text_to_video": 1, "video_to_text": 1}
    assert recalls(model, processor, opposite, facts) == {"text_to_video": 0, "video_to_text": 0}
    assert set(opposites(model, processor, true, facts).values()) == {1}
    assert set(opposites(model, processor, opposite, facts).values()) == {0}
    right = zero_shot(model, processor, true, facts)
    wrong = zero_shot(model, processor, opposite, facts)
    # A random text encoder tells no motion from another where the other facts differ, but the motion counts.
    assert right["unseen"] > 2 * wrong["unseen"] and right["facts"]["motion"] > 2 * wrong["facts"]["motion"]
    assert right["facts"]["speed"] == wrong["facts"]["speed"] == pytest.approx(1, abs=0.5)


def test_tables(tmp_path):
    rows = [
        {"regime": regime, "seed": seed, "cpu_seconds": 60, "tokens": 288 // share, "share": share,
         "optimized": optimized, "grid": [8, 48], "text_to_video": 0.5, "video_to_text": 0.4,
         "unseen": 0.25 + 0.1 * seed * (regime == "flux"), "seen": 0.5,
         "opposites": {"moves_left / moves_right": 0.9}, "facts": {"motion": 0.8}}
        for regime in ("flux", "fixed") for seed in (0, 1) for share in (1, 2, 4, 8) for optimized in (False, True)
    ]  # fmt: skip
    simple = {"sees": "one frame", "text_to_video": 0.02, "video_to_text": 0.01, "unseen": 0.03, "seen": 0.04}
    asked = {"motion": 0.6, "shape": 0.5, "colour": 0.4, "speed": 0.3, "all": 0.1}
    robot = {said: {"clips": 9, "task": 0.2, "object": 0.4, "action": 0.6} for said in ("unseen", "seen")}
    robots = [{"regime": "thumbnails"} | robot, *({"regime": "flux", "share": share} | robot for share in (1, 2, 4, 8))]
    shares = [{"share": share} for share in (1, 2, 4, 8)]
    settings = {"clips": 100, "recipes": {"flux": {"max_steps": 80}}}
    found = {
        "results": {"settings": settings, "rows": rows},
        "baselines": {"rows": [simple | {"opposites": {"moves_left / moves_right": 0.5}, "facts": {"motion": 0.1}}]},
        "new_words": {"rows": [row | {"known": asked, "new": asked | {"motion": 0.2}} for row in shares]},
        "manipulation": {"rows": robots},
    }
    head = {"command": "python x", "date": "2026-01-01", "machine": {}, "versions": {}}
    for name, result in found.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(head | result))
    made = report.tables(tmp_path)
    assert (
        "| unseen | Flux | fixed | 30.0 ± 7.1 | 30.0 ± 7.1 | 30.0 ± 7.1 | 30.0 ± 7.1 | 3.1 |"
        in made["captions.accuracy"]
    )
    assert "| unseen | one frame | – | 3.0 | – | – | – | 3.1 |" in made["captions.accuracy"]
    assert "on the fixed grid +5.0 ± 7.1 points (above in 1 of 2 seeds) with all tokens" in made["captions.verdict"]
    assert "| text to video | fixed grid | optimised | 50.0 ± 0.0 |" in made["captions.retrieval"]
    assert "| 0.4 |" in made["captions.retrieval"]
    assert "| moves left / moves right | Flux | 90.0 ± 0.0 |" in made["captions.opposites"]
    assert "| motion | Flux | 80.0 ± 0.0 |" in made["captions.facts"]
    assert "| motion | one frame | 10.0 | – | – | – | 12.5 |" in made["captions.facts"]
    assert "| motion | new | 20.0 | 20.0 | 20.0 | 20.0 | 12.5 |" in made["captions.new_words"]
    assert "| unseen, 9 clips | action | three thumbnails | 60.0 | – | – | – | 50.0 |" in made["captions.manipulation"]


def test_an_image_says_nothing_of_a_motion():
    """Classifiers that see colour alone know a clip's colour, and its motion no better than chance."""
    generator = np.random.default_rng(0)
    facts = [combinations()[number] for number in generator.integers(256, size=600)]
    seen = np.array([RGB[fact.colour] for fact in facts]) / 255 + generator.normal(0, 0.02, (600, 3))
    gallery = combinations()
    shown = np.array([RGB[fact.colour] for fact in gallery]) / 255
    found = figures(fact_scores(seen, facts, shown), gallery)
    # 256 sentences, a quarter of them of the right colour.
    assert found["video_to_text"] <= 0.05 and found["unseen"] <= 0.15
    assert np.mean(list(found["opposites"].values())) == pytest.approx(0.5, abs=0.1)


def test_new_words_are_in_no_caption_of_training():
    known = {
        word
        for facts in combinations()
        for text in captions(facts, np.random.default_rng(0), 6)
        for word in text.split()
    }
    assert {name: set(values) for name, values in NEW.items()} == {name: set(values) for name, values in KNOWN.items()}
    for values in NEW.values():
        assert len(set(values.values())) == len(values)
        for phrase in values.values():
            assert set(phrase.split()) - known, phrase
    facts = Facts("moves_up", "egg", "red", "fast")
    assert sentence(facts, KNOWN) == "a red egg moves up fast"
    assert sentence(facts, NEW) == "a crimson oval climbs rapidly"


def test_figures_of_tasks():
    """Of four clips: the task right, the object alone, the action alone, nothing."""
    tasks = [("door", "open"), ("door", "close"), ("drawer", "open"), ("window", "close")]
    scores = np.ones((4, len(TASKS)))
    for clip, (best, second) in enumerate(
        [(("door", "open"),) * 2, (("door", "open"),) * 2, (("door", "open"), ("drawer", "open")),
         (("door", "open"), ("window", "open"))]
    ):  # fmt: skip
        scores[clip, TASKS.index(second)] = 2
        scores[clip, TASKS.index(best)] = 3
    found = task_figures(scores, tasks)
    assert found["seen"] == {"clips": 2, "task": 0.5, "object": 1.0, "action": 0.5}
    assert found["unseen"] == {"clips": 2, "task": 0.0, "object": 0.0, "action": 0.5}
