"""Recipes by name and with a base, the values of the paper, and two real steps of each on a few clips."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from transformers import get_scheduler

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification, default_checkpoint
from flux_hf.options.recipes import model_config_path, read_recipe, recipe_names, recipe_path, recipe_purpose
from flux_hf.pretraining import FluxPreTrainingArguments
from flux_hf.scripts import align, list_recipes
from flux_hf.scripts.experiments.motion_clips import LABELS, render_clip
from flux_hf.scripts.finetune import main
from flux_hf.text.arguments import FluxAligningArguments
from flux_hf.training import FluxTrainingArguments
from flux_hf.training.grids import training_grids
from flux_hf.training.starting_model import starting_model
from tests import tiny_aligning, video_datasets

CONFIGS = Path(__file__).parent.parent / "scripts" / "configs"
EXPERIMENTS = CONFIGS.parent / "experiments" / "recipes"
ALIGNING = [name for name in recipe_names() if name.startswith("align") or name == "own_captions"]
RECIPES = [name for name in recipe_names() if not name.startswith("pretrain") and name not in ALIGNING]
RECIPES += sorted(str(path) for path in EXPERIMENTS.glob("motion_nano*.yaml"))
# One of each format; the others are slow tests.
QUICK = ("coin_small", "kinetics710_to_400_small", str(EXPERIMENTS / "motion_nano.yaml"), "own_clips", "ssv2_small")
# Epochs, warm-up epochs, clips of a batch on 8 processes, learning rate: Table 15; SSv2: the scripts of InternVideo2.
PAPER = {
    "kinetics710_small": (35, 5, 1024, 2e-4),
    "kinetics710_base": (20, 5, 1024, 2e-4),
    "kinetics710_to_400_small": (5, 1, 512, 2e-4),
    "kinetics710_to_400_base": (3, 1, 512, 2e-4),
    "kinetics400_small": (40, 5, 512, 2e-4),
    "kinetics400_base": (23, 5, 512, 2e-4),
    "coin_small": (40, 5, 512, 5e-4),
    "coin_base": (25, 5, 512, 5e-4),
    "ssv2_small": (30, 5, 256, 2 * 5e-4),
    "ssv2_base": (10, 2, 256, 2 * 2e-4),
}
OVERRIDES = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_persistent_workers": False,
    "logging_steps": 1,
    "eval_strategy": "no",
    "save_strategy": "no",
    "torch_compile": False,
    "use_cpu": True,
    "disable_tqdm": True,
}


def motion(folder: Path, splits: tuple[str, ...]) -> Path:
    """One clip of every label: label_symmetries turns one into another."""
    for split in splits:
        for number, label in enumerate(LABELS):
            (folder / split / label).mkdir(parents=True)
            render_clip(folder / split / label / f"{number}.mp4", label=label, seed=number)
    return folder


def ssv2(folder: Path, counts: dict[str, int]) -> Path:
    """With the labels that the recipes' label_symmetries names."""
    video_datasets.ssv2(folder, counts)
    file = folder / "something-something-v2-labels.json"
    labels = json.loads(file.read_text())
    table = yaml.safe_load((CONFIGS / "label_symmetries" / "ssv2.yaml").read_text())
    file.write_text(
        json.dumps(labels | {name: str(number) for number, name in enumerate(table["mirror"], len(labels))})
    )
    return folder


def make_dataset(recipe: str, folder: Path) -> tuple[Path, str]:
    """The data set of a recipe, and the name of its evaluation split."""
    if recipe.startswith("motion"):
        return motion(folder, ("train", "validation")), "validation"
    make, split = {
        "kinetics": (video_datasets.kinetics, "val"),
        "ssv": (ssv2, "validation"),
        "coin": (video_datasets.coin, "test"),
        "own": (video_datasets.videofolder, "validation"),
    }[recipe.split("_")[0].rstrip("0123456789")]
    return make(folder, {"train": 4, split: 3}), split


def shrunk_config(folder: Path, model: str) -> Path:
    config = json.loads(model_config_path(model).read_text())
    config |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    config |= {"pooler_num_attention_heads": 2, "mlp_ratio": 1.0}
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.long
@pytest.mark.parametrize(
    "recipe",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES],
    ids=lambda recipe: Path(recipe).stem,
)
def test_two_steps(tmp_path, recipe):
    written, name = read_recipe(recipe), Path(recipe).stem
    dataset, split = make_dataset(name, tmp_path / "data")
    assert written.get("eval_split", "validation") == split
    options = OVERRIDES | {"dataset": dataset, "output_dir": tmp_path / "run"}
    if (dataset / "labels.txt").exists():
        options["labels_file"] = dataset / "labels.txt"
    if "cache_dir" in written:
        options["cache_dir"] = tmp_path / "cache"
    size = next((size for size in ("base", "small") if size in name), "nano")
    config = shrunk_config(tmp_path, written.get("model_config", f"fluxvit_{size}"))
    if "model" in written:
        names = [*reversed(video_datasets.CLASSES), "a class of Kinetics-710 alone"]
        if name.startswith("motion"):
            names = list(LABELS)
        checkpoint = FluxViTConfig.from_json_file(config)
        checkpoint.update({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}})
        FluxViTForVideoClassification(checkpoint).save_pretrained(tmp_path / "larger")
        FluxVideoProcessor(patch_size=checkpoint.patch_size).save_pretrained(tmp_path / "larger")
        options["model"] = tmp_path / "larger"
    else:
        options["model_config"] = config
    main([recipe, *(f"--{name}={value}" for name, value in options.items())])

    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    losses = [entry for entry in history if "loss" in entry]
    assert len(losses) == 2
    budgets = written["token_budgets"]
    for entry in losses:
        assert math.isfinite(entry["loss"])
        trained = {name for name in entry if name.startswith(("loss_", "alignment_"))}
        if written.get("one_budget_per_step"):
            assert len(trained) == 1 and trained < {f"loss_{budget}" for budget in budgets}
        else:
            assert trained == {f"loss_{budget}" for budget in budgets} | {f"alignment_{b}" for b in budgets[1:]}
    last = next(entry for entry in reversed(history) if f"eval_top1_{budgets[0]}" in entry)
    assert all(0 <= last[f"eval_top1_{budget}"] <= 1 for budget in budgets)
    trained = FluxViTForVideoClassification.from_pretrained(tmp_path / "run")
    assert trained.config.token_budget == max(budgets)
    assert trained.config.drop_path_rate == written.get("drop_path_rate", 0.0)
    assert FluxVideoProcessor.from_pretrained(tmp_path / "run").patch_size == trained.config.patch_size


@pytest.mark.parametrize("recipe", PAPER)
def test_values_of_the_paper(recipe):
    epochs, warmup, batch, rate = PAPER[recipe]
    options, args = read_recipe(recipe), FluxTrainingArguments.from_recipe(recipe, bf16=False, use_cpu=True)
    assert (args.num_train_epochs, args.learning_rate) == (epochs, rate)
    assert args.warmup_steps * epochs == pytest.approx(warmup, rel=1e-3)
    assert 8 * args.per_device_train_batch_size * args.gradient_accumulation_steps == batch
    assert (args.weight_decay, options["drop_path_rate"]) == (0.05, 0.2 if recipe == "ssv2_base" else 0.1)
    assert args.views_per_video == (2 if recipe.startswith("ssv2") else 1)
    assert (args.adam_beta2, args.max_grad_norm, args.random_erasing) == (0.999, 0, 0.25)
    assert (args.mixup_alpha, args.cutmix_alpha, args.label_smoothing_factor) == (0.8, 1, 0)
    assert (args.rand_augment_ops, args.rand_augment_magnitude, args.rand_augment_std) == (2, 9, 0.5)
    assert args.layer_decay == (0.85 if recipe == "ssv2_base" else 0.75)
    assert args.flip is not recipe.startswith("ssv2")
    assert args.token_budgets == [3072, 2048, 1024]
    assert (args.min_frames, args.max_frames, args.frames_step) == (4, 24, 2)
    assert (args.min_size, args.max_size, args.size_step) == (168, 252, 28)
    assert (args.min_pool_tokens, args.max_pool_tokens) == (2048, 4096)
    assert options["output_dir"] == f"runs/{recipe}"
    size = recipe.rpartition("_")[2]
    if "_to_" in recipe:
        assert (options["model"], options.get("model_config")) == (f"runs/kinetics710_{size}", None)
    else:
        assert (options["model_config"], options.get("model")) == (f"fluxvit_{size}", None)


# Epochs, warm-up epochs, pairs of a batch on 8 processes, learning rate: Table 16.
PAPER_ALIGNING = {
    "align_small_25m": (3, 0.6, 4096, 4e-4),
    "align_base_25m": (3, 0.6, 4096, 4e-4),
    "align_small_2_5m": (1, 0, 4096, 2e-5),
    "align_base_2_5m": (1, 0, 2048, 2e-5),
}


@pytest.mark.parametrize("recipe", PAPER_ALIGNING)
def test_aligning_with_the_values_of_the_paper(recipe):
    epochs, warmup, batch, rate = PAPER_ALIGNING[recipe]
    args = FluxAligningArguments.from_recipe(recipe, bf16=False, use_cpu=True)
    assert (args.num_train_epochs, args.learning_rate, args.weight_decay) == (epochs, rate, 0.02)
    assert args.warmup_steps * epochs == pytest.approx(warmup)
    assert 8 * args.per_device_train_batch_size * args.gradient_accumulation_steps == batch
    assert (args.adam_beta1, args.adam_beta2, args.lr_scheduler_type) == (0.9, 0.98, "cosine")
    assert (args.multi_scale_crop, args.flip, args.rand_augment_ops) == ([1.0, 0.5], False, 0)
    assert len(training_grids(args, (1, 14))) == 18  # those of fine-tuning: the same frames, sizes and tokens


@pytest.mark.parametrize(
    "recipe", [name if name == "own_captions" else pytest.param(name, marks=pytest.mark.slow) for name in ALIGNING]
)
def test_two_steps_of_aligning(tmp_path, recipe):
    dataset = tiny_aligning.captioned_folder(tmp_path / "data", {"train": 4, "validation": 2})
    size = next((size for size in ("base", "small") if size in recipe), "nano")
    config = FluxViTConfig.from_json_file(shrunk_config(tmp_path, f"fluxvit_{size}"))
    FluxViTForVideoClassification(config).save_pretrained(tmp_path / "video")
    FluxVideoProcessor(patch_size=config.patch_size).save_pretrained(tmp_path / "video")
    options = OVERRIDES | {"dataset": dataset, "output_dir": tmp_path / "run", "bf16": False}
    options |= {"model": tmp_path / "video", "text_model": tiny_aligning.text_folder(tmp_path / "text")}
    align.main([recipe, *(f"--{name}={value}" for name, value in options.items())])
    assert (tmp_path / "run" / "model.safetensors").is_file()


# What the scripts call --lr, --min_lr and --warmup_lr: their shares of the rate are the same at every batch.
SCHEDULES = dict.fromkeys(PAPER, (2e-4, 1e-6, 1e-6)) | dict.fromkeys(
    ("coin_small", "coin_base", "ssv2_small"), (5e-4, 1e-6, 1e-6)
)
SCHEDULES |= {"kinetics710_to_400_base_code": (2e-4, 1e-6, 1e-6), "pretrain_small": (1e-3, 1e-5, 1e-6)}


@pytest.mark.parametrize("recipe", SCHEDULES)
def test_schedules_start_and_end_as_the_official_ones(recipe):
    """`cosine_scheduler` of the official utils: a straight line from --warmup_lr, then half a cosine to --min_lr, for
    every layer by its share. Our cosine is one step ahead of it."""
    rate, last, first = SCHEDULES[recipe]
    arguments = FluxPreTrainingArguments if recipe.startswith("pretrain") else FluxTrainingArguments
    args = arguments.from_recipe(recipe, bf16=False, use_cpu=True)
    steps = 1000
    warmup = round(args.warmup_steps * steps)
    optimizer = torch.optim.AdamW(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": args.learning_rate * share} for share in (1.0, 0.75)],
        lr=args.learning_rate,
    )
    schedule = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    rising = np.linspace(first, rate, warmup)
    falling = last + 0.5 * (rate - last) * (1 + np.cos(np.pi * np.arange(steps - warmup + 1) / (steps - warmup)))
    expected = np.concatenate([rising, falling[1:]]) * args.learning_rate / rate
    np.testing.assert_allclose(found, expected[:, None] * [1.0, 0.75], rtol=1e-9)


def test_values_of_the_official_script():
    paper, code = (read_recipe(f"kinetics710_to_400_base{end}") for end in ("", "_code"))
    assert {name: value for name, value in code.items() if paper.get(name) != value} == {
        "output_dir": "runs/kinetics710_to_400_base_code",
        "learning_rate": 2e-4 * 64 * 8 * 2 / 256,
        "num_train_epochs": 5,
        "warmup_steps": 0.2,
        "views_per_video": 2,
        "label_smoothing_factor": 0.1,
        "rand_augment_ops": 4,
        "rand_augment_magnitude": 7,
        "token_budgets": [2048],
        "min_frames": 6,
        "min_size": 112,
        "max_size": 336,
        "max_pool_tokens": 6144,
    }


def test_clips_of_ones_own_are_not_mirrored():
    """Opening and closing look alike in the mirror of other clips: it cost 2 to 20 points."""
    assert read_recipe("own_clips") | {"flip": False, "model": "default"} == read_recipe("own_clips")


def test_every_recipe_says_what_it_is_for():
    assert [name for name in recipe_names() if not 10 < len(recipe_purpose(name)) <= 100] == []


def test_recipes_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_path("own_clips").is_file()
    (tmp_path / "own_clips.yaml").write_text("seed: 7\n")
    assert read_recipe("own_clips.yaml") == {"seed": 7} == read_recipe(tmp_path / "own_clips.yaml")
    assert read_recipe("own_clips")["seed"] == 0
    assert model_config_path("fluxvit_small").name == "fluxvit_small.json"
    assert model_config_path("my/config.json") == Path("my/config.json")


def test_models_start_from_shipped_files_by_name():
    shipped = FluxViTForVideoClassification.from_pretrained(default_checkpoint()).fluxvit.embeddings.cls_token
    assert starting_model(["a", "b"], checkpoint="default").fluxvit.embeddings.cls_token.equal(shipped)
    pico = json.loads(model_config_path("fluxvit_pico").read_text())
    assert starting_model(["a", "b"], config_file="fluxvit_pico").config.hidden_size == pico["hidden_size"]
    with pytest.raises(ValueError, match="there is no model configuration 'fluxvit_pic'; did you mean fluxvit_pico?"):
        starting_model(["a", "b"], config_file="fluxvit_pic")


def test_a_recipe_goes_over_its_base(tmp_path):
    files = {
        "first.yaml": "base: folder/second.yaml\nseed: 1\n",
        "folder/second.yaml": "base: third\nseed: 2\nmodel: two\n",
        "folder/third.yaml": "base: own_clips\nseed: 3\nmodel: three\nsize: 32\n",
    }
    (tmp_path / "folder").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    changed = {"seed": 1, "model": "two", "size": 32}
    assert read_recipe(tmp_path / "first.yaml") == read_recipe("own_clips") | changed


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("recipe", r"base in .*recipe.yaml: recipes are their own base: .*recipe.yaml -> .*recipe.yaml$"),
        ("./recipe.yaml", "recipes are their own base"),
        ("own_clip", "base in .*recipe.yaml: there is no recipe 'own_clip'; did you mean own_clips?"),
        ("nowhere.yaml", "base in .*recipe.yaml: .*nowhere.yaml cannot be read: No such file or directory"),
        ("[one, other]", "base in .*recipe.yaml must be the name or the path of one recipe, got .*'one', 'other'"),
    ],
)
def test_bases_that_are_none(tmp_path, base, message):
    (tmp_path / "recipe.yaml").write_text(f"base: {base}\n")
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "recipe.yaml")


def test_the_list_of_recipes(capsys):
    list_recipes.main([])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [[name, recipe_purpose(name)] for name in recipe_names()]


def test_a_printed_recipe_is_a_recipe_without_a_base(tmp_path, capsys):
    list_recipes.main(["ssv2_base"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert "base" not in yaml.safe_load((tmp_path / "printed.yaml").read_text())
    assert read_recipe(tmp_path / "printed.yaml") == read_recipe("ssv2_base")


def test_training_arguments_from_a_recipe(tmp_path):
    args = FluxTrainingArguments.from_recipe("own_clips", output_dir=str(tmp_path), use_cpu=True, seed=3)
    assert type(args) is FluxTrainingArguments
    assert (args.learning_rate, args.token_budgets, args.flip) == (2e-3, [256, 128, 64], False)
    assert (args.output_dir, args.seed) == (str(tmp_path), 3)
    (tmp_path / "mine.yaml").write_text("base: own_clips\nlearning_rate: 3e-4\n")  # a word to YAML
    assert FluxTrainingArguments.from_recipe(str(tmp_path / "mine.yaml"), use_cpu=True).learning_rate == 3e-4
    args = FluxPreTrainingArguments.from_recipe("pretrain_small", bf16=False, use_cpu=True)
    assert (args.teacher_tokens, args.adam_epsilon) == (2048, 1e-6)


@pytest.mark.parametrize(
    ("arguments", "recipe", "overrides", "message"),
    [
        (FluxTrainingArguments, "own_clip", {}, "there is no recipe 'own_clip'; did you mean own_clips?"),
        (FluxTrainingArguments, "own_clips", {"learning_rat": 1}, "unknown options: learning_rat; did you mean learn"),
        (FluxTrainingArguments, "own_clips", {"model": "default"}, "recipe own_clips: unknown options: model"),
        (
            FluxTrainingArguments,
            "own_clips",
            {"seed": "x"},
            "own_clips: argument --seed: invalid int value: 'x'",
        ),
        (FluxTrainingArguments, "pretrain_small", {}, "unknown options: teacher_bf16, teacher_tokens"),
        (
            FluxPreTrainingArguments,
            "own_clips",
            {},
            "unknown options: min_steps, num_frames, one_budget_per_step, size",
        ),
    ],
)
def test_recipes_that_do_not_fit(arguments, recipe, overrides, message):
    with pytest.raises(ValueError, match=message):
        arguments.from_recipe(recipe, **overrides)


def test_classes_are_taken_by_name(tmp_path):
    names = ["a", "b", "c"]
    config = FluxViTConfig.from_json_file(shrunk_config(tmp_path, "fluxvit_nano"))
    config.update({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}})
    larger = FluxViTForVideoClassification(config)
    larger.save_pretrained(tmp_path / "larger")
    for wanted in (["c", "a"], ["b", "a", "c"], names):
        model = starting_model(wanted, checkpoint=str(tmp_path / "larger"))
        for mine, theirs in zip(model.classifier.heads, larger.classifier.heads, strict=True):
            assert mine.weight.equal(theirs.weight[[names.index(name) for name in wanted]])
        assert model.config.id2label == dict(enumerate(wanted))
    for others in (["x", "y"], ["a", "b", "x"]):
        model = starting_model(others, checkpoint=str(tmp_path / "larger"))
        assert model.num_labels == len(others)
        rows = larger.classifier.heads[0].weight.tolist()
        assert not [row for row in model.classifier.heads[0].weight.tolist() if row in rows]
        assert model.fluxvit.embeddings.cls_token.equal(larger.fluxvit.embeddings.cls_token)


@pytest.mark.parametrize("name", ["fsdp", "deepspeed_zero1"])
def test_accelerate_files_parse(name):
    path = CONFIGS / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.distributed_type.value == ("DEEPSPEED" if name.startswith("deep") else "FSDP")
    known = {action.dest for action in launch_command_parser()._actions}
    prefix = {"fsdp_config": "", "deepspeed_config": ""}
    for section in prefix:
        assert set(getattr(config, section, None) or {}) <= known, section
    model = FluxViTForVideoClassification(FluxViTConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1))
    wrapped = (config.fsdp_config or {}).get("fsdp_transformer_layer_cls_to_wrap")
    assert wrapped is None or wrapped in {type(module).__name__ for module in model.modules()}
