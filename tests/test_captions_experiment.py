"""The experiment with captions that compose: what is held out, what is said, what is shown, and its tables."""

import itertools
import json

import numpy as np
import pytest

from flux_hf.scripts.experiments.captions import report
from flux_hf.scripts.experiments.captions.clips import LENGTHS, RGB, clip_spec, facts_of
from flux_hf.scripts.experiments.captions.compare import CaptionOptions, arguments, budgets
from flux_hf.scripts.experiments.captions.words import (
    HELD_OUT,
    MOTIONS,
    SHAPES,
    Facts,
    captions,
    combinations,
    motion_and_shape,
    tokenizer,
)
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.training.grids import training_grids


def test_no_training_clip_shows_what_is_held_out():
    train, validation, test = (facts_of(split, 300, 0) for split in ("train", "validation", "test"))
    assert len(train) == 300 and not [facts for facts in (*train, *validation) if facts.held_out]
    assert {facts.motion for facts in train} == set(MOTIONS) and {facts.shape for facts in train} == set(SHAPES)
    assert {motion for motion, _ in HELD_OUT} == set(MOTIONS) and {shape for _, shape in HELD_OUT} == set(SHAPES)
    assert test[:192] == combinations() and all(facts.held_out for facts in test[192:])
    assert train != facts_of("train", 300, 1)


def test_sentences_tell_all_facts_apart_in_known_words():
    words, said = tokenizer(), {}
    for facts in combinations():
        for text in captions(facts, np.random.default_rng(0), count=6):
            assert facts.colour in text and facts.shape in text
            assert words.unk_token_id not in words(text)["input_ids"]
            assert said.setdefault(text, facts) == facts
    prompts = [text for motion, shape in itertools.product(MOTIONS, SHAPES) for text in motion_and_shape(motion, shape)]
    assert len(set(prompts)) == len(prompts)
    assert words.unk_token_id not in sum(words(prompts)["input_ids"], [])


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
    assert [len(training_grids(args, (1, 8))) for args in of_regime.values()] == [5, 1]
    assert (
        [args.token_budgets for args in of_regime.values()] == [budgets()[1:], budgets()[:1]] == [[144, 72, 36], [288]]
    )
    assert of_regime["flux"].max_steps == of_regime["fixed"].max_steps


def test_tables(tmp_path):
    rows = [
        {"regime": regime, "seed": seed, "cpu_seconds": 60, "tokens": 288 // share, "share": share,
         "optimized": optimized, "grid": [8, 48], "r1": 0.5, "unseen": 0.25 + 0.1 * seed, "seen": 0.5,
         "opposites": {"moves_left / moves_right": 0.9}}
        for regime in ("flux", "fixed") for seed in (0, 1) for share in (1, 2, 4, 8) for optimized in (False, True)
    ]  # fmt: skip
    settings = {"clips": 100, "recipes": {"flux": {"max_steps": 80}}}
    head = {"command": "python x", "date": "2026-01-01", "machine": {}, "versions": {}}
    (tmp_path / "results.json").write_text(json.dumps(head | {"settings": settings, "rows": rows}))
    made = report.tables(tmp_path / "results.json")
    assert "| flux | fixed | 30.0 ± 7.1 | 30.0 ± 7.1 | 30.0 ± 7.1 | 30.0 ± 7.1 | 4.2 |" in made["captions"]
    assert (
        "| fixed | optimised | 50.0 ± 0.0 |" in made["captions.retrieval"] and "| 0.5 |" in made["captions.retrieval"]
    )
    assert "| moves left / moves right | flux | 90.0 ± 0.0 |" in made["captions.opposites"]
