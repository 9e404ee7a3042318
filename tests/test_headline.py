"""The headline experiment: its models, its selections, its report, and a miniature of the whole."""

import json

import numpy as np
import pytest
import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.costs import forward_macs
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.scripts.experiments.headline.experiment import (
    HeadlineOptions,
    budgets_of,
    planned_arms,
    planned_runs,
    reversed_labels,
    run_arguments,
    smaller_grids,
    starting_config,
)
from flux_hf.scripts.experiments.headline.models import METHODS, build_model, load_model
from flux_hf.scripts.experiments.headline.report import over_seeds, percent_and_spread, table_of_budgets, verdict
from flux_hf.scripts.experiments.headline.selection import RULES, SELECTIONS
from tests import tiny_training
from tests.video_files import encode_video

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pooler_num_attention_heads": 2,
    "projection_dim": 16,
    "patch_size": 8,
    "position_frames": 4,
    "position_size": 32,
    "layer_scale_init": 1.0,
    "initializer_range": 0.2,
}


@pytest.fixture
def config():
    return FluxViTConfig(**SIZES, head_token_budgets=[64], num_labels=3)


def test_plain_model_has_no_flux_modules_left(config, tmp_path):
    torch.manual_seed(0)
    model = build_model("plain", config).eval()
    names = {name for name, _ in model.named_parameters()}
    assert not [name for name in names if "local_position" in name or "norm_before" in name or "norm_after" in name]
    video = torch.randn(2, 4, 3, 32, 32)
    embedding = model.fluxvit.embeddings.patch_embedding
    patches = embedding.patchify(video)
    torch.testing.assert_close(embedding(patches), patches @ embedding.projection.weight.T + embedding.projection.bias)

    before = model.fluxvit.embeddings.position_embedding.weight.clone()
    model(video, labels=torch.tensor([0, 1])).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    assert torch.equal(model.fluxvit.embeddings.position_embedding.weight, before)

    model.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_model("plain", tmp_path)(video).logits, model(video).logits)
    with pytest.raises(RuntimeError, match="local_position"):
        load_model("flux_fixed", tmp_path)
    with pytest.raises(
        ValueError,
        match="method must be one of plain, flux_fixed, flux_single, flux_multi, flux_few, plain_few, got 'other'",
    ):
        build_model("other", config)


def test_plain_model_from_a_checkpoint_takes_what_it_has_a_place_for(config, tmp_path):
    """Scales of the patch norms and of the positions are folded in: only the division by the norm is gone."""
    torch.manual_seed(0)
    start = FluxViTForVideoClassification(config).eval()
    patches, positions = start.fluxvit.embeddings.patch_embedding, start.fluxvit.embeddings.position_embedding
    with torch.no_grad():
        for parameter in (patches.norm_before.weight, patches.norm_after.weight, positions.weight, positions.bias):
            parameter.copy_(torch.rand_like(parameter) + 0.5)
    start.save_pretrained(tmp_path)
    plain = build_model("plain", FluxViTConfig.from_pretrained(tmp_path), str(tmp_path)).eval()
    video = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        cut = patches.patchify(video)
        expected = patches.projection(cut * patches.norm_before.weight) * patches.norm_after.weight
        torch.testing.assert_close(plain.fluxvit.embeddings.patch_embedding(cut), expected)
        for mine, its in zip(plain.fluxvit.embeddings.position_embedding(2, 3, 3), positions(2, 3, 3), strict=True):
            torch.testing.assert_close(mine, its)
    flux = build_model("flux_multi", FluxViTConfig.from_pretrained(tmp_path), str(tmp_path))
    for name, parameter in start.state_dict().items():
        assert torch.equal(flux.state_dict()[name], parameter)
    other = FluxViTConfig(**SIZES, head_token_budgets=[32, 16], token_budget=32, num_labels=5)
    fitted = build_model("flux_multi", other, str(tmp_path))
    assert (
        fitted(video).logits.shape == (2, 5) and fitted.token_budgets == [32, 16] and fitted.config.token_budget == 32
    )
    for name, parameter in start.fluxvit.encoder.state_dict().items():
        assert torch.equal(fitted.fluxvit.encoder.state_dict()[name], parameter)


def test_configuration_of_the_start(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(SIZES))
    drawn = HeadlineOptions("d", "c", model_config=str(tmp_path / "model.json"), num_frames=6, size=48)
    config = starting_config(drawn)
    assert (config.position_frames, config.position_size, config.hidden_size) == (6, 48, 32)
    FluxViTForVideoClassification(FluxViTConfig(**SIZES)).save_pretrained(tmp_path / "start")
    config = starting_config(HeadlineOptions("d", "c", start=str(tmp_path / "start"), num_frames=6, size=48))
    assert (config.position_frames, config.position_size) == (4, 32)


def test_one_start_is_needed(tmp_path):
    from flux_hf.scripts.experiments.headline import reproduce_headline
    from flux_hf.training import FluxTrainingArguments

    args = FluxTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for options in (HeadlineOptions("d", "c"), HeadlineOptions("d", "c", model_config="m", start="s")):
        with pytest.raises(ValueError, match="give model_config or start, got"):
            reproduce_headline(options, args)


def test_arms():
    arms = planned_arms(Grid(8, 96), {288: Grid(12, 96), 144: Grid(8, 64)}, (1, 8))
    assert len(arms) == 2 * 7
    assert arms["token_optimization", 144].grid == (8, 64) and arms["frames", 288].grid == (2, 96)
    assert {arms[saving, 144].grid for saving in ("selector", "random", "tube", "dynamic")} == {(8, 96)}
    assert len({arms[saving, 144].forward for saving in ("selector", "random", "tube", "dynamic")}) == 4


def test_random_selections_are_one_draw_for_all_clips(config):
    model = FluxViTForVideoClassification(config).eval()
    video = torch.randn(2, 4, 3, 32, 32)
    drawn = {"random": torch.randperm(64, generator=torch.Generator().manual_seed(0))[:20]}
    places = torch.randperm(16, generator=torch.Generator().manual_seed(0))[:5]
    drawn["tube"] = (places + 16 * torch.arange(4)[:, None]).flatten()
    with torch.no_grad():
        for name, kept in drawn.items():
            mask = torch.zeros(2, 64, dtype=torch.bool)
            mask[:, kept] = True
            assert model(video, token_budget=20, token_selection=RULES[name]).keep_mask.equal(mask)
            answer = SELECTIONS[name](model, video, 20)
            torch.testing.assert_close(answer, model(video, keep_mask=mask).logits)
            torch.testing.assert_close(SELECTIONS[name](model, video, 64), model(video).logits)


def test_smaller_grids():
    assert smaller_grids(Grid(8, 96), 1152, 1, 8) == ((8, 96), (8, 96))
    assert smaller_grids(Grid(8, 96), 288, 1, 8) == ((2, 96), (8, 48))
    assert smaller_grids(Grid(8, 96), 144, 1, 8) == ((1, 96), (8, 32))
    assert smaller_grids(Grid(8, 96), 288, 2, 8) == ((4, 96), (8, 64))


def test_runs_and_budgets(config):
    options = HeadlineOptions("d", "c", model_config="m", num_frames=4, size=32, seeds=[0, 1])
    assert budgets_of(options, config) == [64, 32, 16, 8]
    assert [run.name for run in planned_runs(options)][:5] == [
        "plain-same_clips-seed0",
        "flux_fixed-same_clips-seed0",
        "flux_single-same_clips-seed0",
        "flux_multi-same_clips-seed0",
        "flux_multi-same_compute-seed0",
    ]


def test_runs_of_equal_compute(config, tmp_path):
    options = HeadlineOptions(
        "d", "c", model_config="m", num_frames=4, size=32, seeds=[0], same=["compute"], methods=list(METHODS)
    )
    runs = planned_runs(options)
    assert [run.name for run in runs] == [f"{name}-same_compute-seed0" for name in options.methods]
    args = tiny_training.arguments(tmp_path, max_steps=1000)
    steps = {run.method: run_arguments(run, options, args, config, tmp_path).max_steps for run in runs}
    macs = {budget: forward_macs(config, budget) for budget in (64, 32, 16)}
    assert steps == {
        "plain": 1000,
        "flux_fixed": 1000,
        "flux_single": round(1000 * macs[64] / macs[32]),
        "flux_multi": round(1000 * macs[64] / sum(macs.values())),
        "flux_few": round(1000 * macs[64] / macs[16]),
        "plain_few": round(1000 * macs[64] / macs[16]),
    }
    few = run_arguments(runs[-1], options, args, config, tmp_path)
    assert (few.token_budgets, few.min_pool_tokens, few.max_frames, few.max_size) == ([16], 64, 4, 32)
    args.one_budget_per_step = True
    multi = run_arguments(runs[3], options, args, config, tmp_path).max_steps
    assert multi == round(3000 * macs[64] / sum(macs.values()))


def test_runs_of_equal_seconds(config, tmp_path):
    options = HeadlineOptions(
        "d",
        "c",
        model_config="m",
        num_frames=4,
        size=32,
        seeds=[0],
        same=["seconds"],
        methods=["plain", "flux_few"],
        step_seconds=["plain=2.0", "flux_few=0.5"],
    )
    args = tiny_training.arguments(tmp_path, max_steps=100)
    plain, few = planned_runs(options)
    assert (plain.name, few.name) == ("plain-same_seconds-seed0", "flux_few-same_seconds-seed0")
    assert run_arguments(plain, options, args, config, tmp_path).max_steps == 100
    assert run_arguments(few, options, args, config, tmp_path).max_steps == 400
    for wrong, named in ((["plain=2.0"], "flux_few, got"), (["plain=2.0", "flux_few=fast"], "got 'flux_few=fast'")):
        options.step_seconds = wrong
        with pytest.raises(ValueError, match=named):
            run_arguments(few, options, args, config, tmp_path)


def test_labels_of_clips_played_backwards(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("backwards: {opens: closes, closes: opens, waves: null}")
    names = ["closes", "still", "opens", "waves"]
    assert reversed_labels(str(table), names) == [2, None, 0, None]
    table.write_text("mirror: {}")
    assert reversed_labels(str(table), names) is None and reversed_labels(None, names) is None


@pytest.mark.parametrize("wrong", [{"savings": ["fewer"]}, {"savings": []}, {"same": ["time"]}, {"methods": ["vit"]}])
def test_wrong_options(wrong, tmp_path):
    from flux_hf.scripts.experiments.headline import reproduce_headline

    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        reproduce_headline(HeadlineOptions("d", "c", start="s", **wrong), tiny_training.arguments(tmp_path))


def test_random_light_needs_clips_on_the_device(tmp_path):
    from flux_hf.scripts.experiments.headline import reproduce_headline

    with pytest.raises(ValueError, match="random_light=0.3 needs clips_on_device=true"):
        reproduce_headline(HeadlineOptions("d", "c", start="s", random_light=0.3), tiny_training.arguments(tmp_path))


def test_report():
    def row(method, seed, saving, budget, top1, gmacs):
        facts = {"method": method, "same": "clips", "seed": seed, "saving": saving, "budget": budget}
        return facts | {"top1": top1, "gmacs": gmacs, "ms": 5.0, "grid": [4, 32]}

    rows = [row("plain", seed, "selector", 64, 0.6 + 0.1 * seed, 1.0) for seed in range(3)]
    rows += [row("flux_multi", 0, "token_optimization", 16, 0.75, 0.1)]
    means = over_seeds(rows)
    assert means[0]["top1"] == pytest.approx(0.7) and means[0]["spread"] == pytest.approx(0.1)
    assert "70.0 ± 10.0 · 1.000 GMACs · 5 ms" in table_of_budgets(means, [64, 32, 16, 8])
    untimed = over_seeds([{name: value for name, value in one.items() if name != "ms"} for one in rows])
    assert "70.0 ± 10.0 · 1.000 GMACs |" in table_of_budgets(untimed, [64, 32, 16, 8])
    clips, compute = verdict(means, [64, 32, 16, 8]).splitlines()
    assert "at or above" in clips and "at 10 % of its GMACs, within" in clips
    assert compute == "Same compute: not measured."
    rows[-1] |= {"top1": 0.65, "gmacs": 0.2}
    assert "below" in verdict(over_seeds(rows), [64, 32, 16, 8]) and "above the 12 %" in verdict(over_seeds(rows), [64, 32, 16, 8])  # fmt: skip  # noqa: E501


@pytest.mark.slow
def test_miniature(tmp_path, capsys):
    """Everything once, tiny: the files are there, the budgets are met, and a second call trains nothing."""
    from flux_hf.scripts.experiments.headline.reproduce import main

    draw = np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 6), ("test", 6)):
        for index in range(count):
            folder = tmp_path / "videos" / split / ("abc"[index % 3])
            folder.mkdir(parents=True, exist_ok=True)
            noise = draw.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            data = encode_video(10, height=48, width=64, picture=lambda n, *size, noise=noise: np.roll(noise, 4 * n, 1))
            (folder / f"{index}.mp4").write_bytes(data)
    (tmp_path / "model.json").write_text(json.dumps(SIZES | {"model_type": "fluxvit"}))
    command = ["--dataset", str(tmp_path / "videos"), "--cache_dir", str(tmp_path / "cache")]
    command += ["--model_config", str(tmp_path / "model.json"), "--num_frames", "4", "--size", "32", "--seeds", "0"]
    command += ["--output_dir", str(tmp_path / "runs"), "--max_steps", "4", "--per_device_train_batch_size", "4"]
    command += ["--rand_augment_ops", "0", "--use_cpu", "true", "--save_strategy", "no"]
    command += ["--validation_videos", "5", "--test_videos", "4"]
    main(command)
    result = json.loads((tmp_path / "runs" / "headline.json").read_text())
    assert len(result["rows"]) == 5 * 7 * 4 and not any("backwards" in row for row in result["rows"])
    assert {row["videos"] for row in result["rows"]} == {4} and all(row["ms"] > 0 for row in result["rows"])
    assert {row["budget"] for row in result["rows"]} == {64, 32, 16, 8}
    by_clips, by_compute = (result["runs"][f"flux_multi-same_{same}-seed0"]["steps"] for same in ("clips", "compute"))
    config = FluxViTConfig(**SIZES, num_labels=3)
    share = forward_macs(config, 64) / sum(forward_macs(config, budget) for budget in (64, 32, 16))
    assert (by_clips, by_compute) == (4, round(4 * share))
    assert (tmp_path / "runs" / "headline.png").stat().st_size > 5000
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/model.safetensors")}
    assert len(weights) == 5
    main(command)
    assert weights == {path: path.stat().st_mtime_ns for path in weights}
    assert "Same clips: Flux-Multi with Token Optimization at 1/4" in capsys.readouterr().out


@pytest.mark.slow
def test_miniature_with_opposites(tmp_path):
    """One way of saving tokens, and two labels that are each other backwards."""
    from flux_hf.scripts.experiments.headline.reproduce import main

    for split, count in (("train", 8), ("validation", 4), ("test", 8)):
        for index in range(count):
            folder = tmp_path / "videos" / split / ("left", "right")[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.mp4").write_bytes(encode_video(10, height=48, width=64))
    (tmp_path / "model.json").write_text(json.dumps(SIZES | {"model_type": "fluxvit"}))
    (tmp_path / "opposites.yaml").write_text("backwards: {left: right, right: left}")
    command = ["--dataset", str(tmp_path / "videos"), "--cache_dir", str(tmp_path / "cache"), "--seeds", "0"]
    command += ["--model_config", str(tmp_path / "model.json"), "--num_frames", "4", "--size", "32"]
    command += ["--output_dir", str(tmp_path / "runs"), "--max_steps", "4", "--per_device_train_batch_size", "4"]
    command += ["--rand_augment_ops", "0", "--use_cpu", "true", "--save_strategy", "no", "--timed_forwards", "0"]
    command += ["--same", "compute", "--methods", "plain", "flux_multi", "--one_budget_per_step", "true"]
    command += ["--savings", "selector"]
    main([*command, "--label_symmetries", str(tmp_path / "opposites.yaml"), "--flip", "false"])
    result = json.loads((tmp_path / "runs" / "headline.json").read_text())
    assert len(result["rows"]) == 2 * 4
    assert all(row["top1"] + row["backwards"] == 1 for row in result["rows"])  # two labels, each other's opposite
    assert result["runs"]["plain-same_compute-seed0"]["steps"] == 4


def test_one_seed_has_no_spread():
    row = {"method": "plain", "same": "clips", "saving": "selector", "budget": 8, "gmacs": 1.0, "grid": [8, 96]}
    shown = [
        percent_and_spread(*over_seeds([row | {"top1": value, "seed": seed} for seed, value in enumerate(values)]))
        for values in ([0.5], [0.4, 0.6])
    ]
    assert shown == ["50.0", "50.0 ± 14.1"]
