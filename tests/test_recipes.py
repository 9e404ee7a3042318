"""Every recipe: two real steps on a few clips in the data set's own format, with the model shrunk."""

import json
import math
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.motion_clips import LABELS, render_clip
from flux_hf.scripts.finetune import main
from flux_hf.training import FinetuneOptions, FluxTrainingArguments
from tests import video_datasets

CONFIGS = Path(__file__).parent.parent / "scripts" / "configs"
RECIPES = sorted(path.stem for path in (CONFIGS / "recipes").glob("*.yaml") if not path.stem.startswith("pretrain"))
# One of each format; the others are slow tests.
QUICK = ("coin_small", "kinetics710_to_400_small", "motion_nano", "own_clips_nano", "ssv2_small")
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
    """One clip of every label: motion symmetries turn one into another."""
    for split in splits:
        for number, label in enumerate(LABELS):
            (folder / split / label).mkdir(parents=True)
            render_clip(folder / split / label / f"{number}.mp4", label=label, seed=number)
    return folder


def make_dataset(recipe: str, folder: Path) -> tuple[Path, str]:
    """The data set of a recipe, and the name of its evaluation split."""
    if recipe.startswith("motion"):
        return motion(folder, ("train", "validation")), "validation"
    make, split = {
        "kinetics": (video_datasets.kinetics, "val"),
        "ssv": (video_datasets.ssv2, "validation"),
        "coin": (video_datasets.coin, "test"),
        "own": (video_datasets.videofolder, "validation"),
    }[recipe.split("_")[0].rstrip("0123456789")]
    return make(folder, {"train": 4, split: 3}), split


def shrunk_config(folder: Path, model: str) -> Path:
    config = json.loads((CONFIGS / "models" / model).read_text())
    config |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    config |= {"pooler_num_attention_heads": 2, "mlp_ratio": 1.0}
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    "recipe", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_two_steps(tmp_path, recipe):
    path = CONFIGS / "recipes" / f"{recipe}.yaml"
    written = yaml.safe_load(path.read_text())
    dataset, split = make_dataset(recipe, tmp_path / "data")
    assert written.get("eval_split", "validation") == split
    options = OVERRIDES | {"dataset": dataset, "output_dir": tmp_path / "run"}
    if "labels_file" in written:
        options["labels_file"] = dataset / "labels.txt"
    if "cache_dir" in written:
        options["cache_dir"] = tmp_path / "cache"
    size = next(size for size in ("nano", "base", "small") if size in recipe)
    config = shrunk_config(tmp_path, Path(written.get("model_config", f"fluxvit_{size}.json")).name)
    if "model" in written:
        names = [*reversed(video_datasets.CLASSES), "a class of Kinetics-710 alone"]
        if recipe.startswith("motion"):
            names = list(LABELS)
        checkpoint = FluxViTConfig.from_json_file(config)
        checkpoint.update({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}})
        FluxViTForVideoClassification(checkpoint).save_pretrained(tmp_path / "larger")
        FluxVideoProcessor(patch_size=checkpoint.patch_size).save_pretrained(tmp_path / "larger")
        options["model"] = tmp_path / "larger"
    else:
        options["model_config"] = config
    main([str(path), *(f"--{name}={value}" for name, value in options.items())])

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


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_name_their_source_and_what_they_train(recipe):
    text = (CONFIGS / "recipes" / f"{recipe}.yaml").read_text()
    options, arguments = parse_options(
        (FinetuneOptions, FluxTrainingArguments), [str(CONFIGS / "recipes" / f"{recipe}.yaml"), "--bf16=False"]
    )
    if not recipe.startswith(("motion", "own")):
        assert "Table" in text or "exp/base/ft" in text
        assert arguments.weight_decay == 0.05
        assert options.drop_path_rate == 0.1
        assert arguments.flip is not recipe.startswith("ssv2")
    if recipe == "motion_nano":
        assert arguments.token_budgets == [256, 128, 64]


def test_classes_are_taken_by_name(tmp_path):
    from flux_hf.training.starting_model import starting_model

    names = ["a", "b", "c"]
    config = FluxViTConfig.from_json_file(shrunk_config(tmp_path, "fluxvit_nano.json"))
    config.update({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}})
    larger = FluxViTForVideoClassification(config)
    larger.save_pretrained(tmp_path / "larger")
    for wanted in (["c", "a"], ["b", "a", "c"], names):
        model = starting_model(wanted, checkpoint=str(tmp_path / "larger"))
        for mine, theirs in zip(model.classifiers, larger.classifiers, strict=True):
            assert mine.weight.equal(theirs.weight[[names.index(name) for name in wanted]])
        assert model.config.id2label == dict(enumerate(wanted))
    for others in (["x", "y"], ["a", "b", "x"]):
        model = starting_model(others, checkpoint=str(tmp_path / "larger"))
        assert model.num_labels == len(others)
        rows = larger.classifiers[0].weight.tolist()
        assert not [row for row in model.classifiers[0].weight.tolist() if row in rows]
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
