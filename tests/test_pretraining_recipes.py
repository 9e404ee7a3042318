"""Recipes of pre-training: two real steps on a few clips with a shrunk model and a tiny teacher."""

import json
import math
from pathlib import Path

import pytest

from flux_hf import FluxViTForPreTraining
from flux_hf.options import parse_options
from flux_hf.options.pretraining import FluxPreTrainingOptions, PretrainOptions
from flux_hf.options.recipes import read_recipe
from flux_hf.pretraining import FluxPreTrainingArguments
from flux_hf.scripts.pretrain import main
from tests import tiny_pretraining, video_datasets
from tests.test_recipes import EXPERIMENTS, OVERRIDES, motion, shrunk_config

RECIPES = ["pretrain_base", "pretrain_small", str(EXPERIMENTS / "pretrain_nano.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: Path(recipe).stem)
def test_two_steps(tmp_path, recipe):
    written = read_recipe(recipe)
    if "nano" in recipe:
        folders = [motion(tmp_path / "motion", ("train",))]
    else:
        folders = [
            video_datasets.kinetics(tmp_path / "kinetics710", {"train": 4}),
            video_datasets.ssv2(tmp_path / "ssv2", {"train": 4}),
        ]
    without_flip = [str(folder) for folder in folders if folder.name == "ssv2"]
    changed = OVERRIDES | {
        "teacher": str(tiny_pretraining.teacher_folder(tmp_path / "teacher")),
        "model_config": str(shrunk_config(tmp_path, written["model_config"])),
        "output_dir": str(tmp_path / "run"),
    }
    del changed["eval_strategy"]
    if "cache_dir" in written:
        changed["cache_dir"] = tmp_path / "cache"
    options = [f"--{name}={value}" for name, value in changed.items()]
    options += ["--dataset", *map(str, folders)]
    options += ["--dataset_without_flip", *without_flip] if without_flip else []
    main([recipe, *options])

    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    losses = [entry for entry in history if "loss" in entry]
    assert len(losses) == 2
    for entry in losses:
        assert math.isfinite(entry["loss"])
        parts = {name for name in entry if name.startswith(("layer", "pooled"))}
        assert parts == {f"{part}_{budget}" for part in ("layer2", "pooled") for budget in written["token_budgets"]}
    trained = FluxViTForPreTraining.from_pretrained(tmp_path / "run")
    assert trained.config.drop_path_rate == 0.05
    assert trained.config.teacher_hidden_size == 48


@pytest.mark.parametrize("size", ["small", "base"])
def test_table_14(size):
    arguments = [f"pretrain_{size}", "--bf16=False", "--use_cpu", "--teacher=any", "--dataset=any"]
    options, args = parse_options((PretrainOptions, FluxPreTrainingOptions), arguments, "", {"recipe": "RECIPE"})
    assert (args.adam_beta1, args.adam_beta2, args.weight_decay) == (0.9, 0.98, 0.05)
    assert (args.learning_rate, args.num_train_epochs) == (1e-3, 100)
    assert args.warmup_steps * args.num_train_epochs == 20
    assert 8 * args.per_device_train_batch_size * args.gradient_accumulation_steps == 2048
    assert (args.teacher_tokens, args.token_budgets) == (2048, [2048, 1536, 1024])
    assert options.model_config == f"fluxvit_{size}" and options.drop_path_rate == 0.05
    assert options.head_token_budgets == args.token_budgets
    assert (args.min_frames, args.max_frames, args.frames_step) == (4, 24, 2)
    assert (args.min_size, args.max_size, args.size_step) == (168, 252, 28)
    assert args.multi_scale_crop == [1.0, 0.875, 0.75, 0.66]
    assert options.drop_path_rate == 0.05
    assert args.flip


def test_defaults_are_those_of_the_table(tmp_path):
    args = FluxPreTrainingArguments(str(tmp_path), use_cpu=True)
    assert (args.learning_rate, args.adam_beta2, args.num_train_epochs, args.warmup_steps) == (1e-3, 0.98, 100, 0.2)
    assert args.multi_scale_crop == [1.0, 0.875, 0.75, 0.66]
    assert args.rand_augment_ops == 0
