"""What benchmarks measure with: their files are what their names say, everything takes turns, reports hold the JSON."""

import json
import resource

import av
import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flux_hf import FluxViTConfig, FluxViTForVideoClassification, enable_flux
from flux_hf.costs import forward_macs
from flux_hf.files import read_json, write_json
from flux_hf.modeling.layers_fluxvit import ChannelAffine
from flux_hf.modeling.token_selection_fluxvit import kept_positions, take_tokens
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.scripts.benchmarks.measuring.alternatives import count_packets, full_and_scaled, pixel_difference
from flux_hf.scripts.benchmarks.measuring.any_model import SELECTION, STOCK, cpu_kilobytes, runs_of, without_encoder
from flux_hf.scripts.benchmarks.measuring.budgets import (
    forward_kilobytes,
    grids_of_budget,
    runs_on_grids,
)
from flux_hf.scripts.benchmarks.measuring.files import FileKind, video_file
from flux_hf.scripts.benchmarks.measuring.floor import matmuls_and_attention, selection_and_positions
from flux_hf.scripts.benchmarks.measuring.memory import added_kilobytes, peak_kilobytes
from flux_hf.scripts.benchmarks.measuring.naive import NaiveForward
from flux_hf.scripts.benchmarks.measuring.readers import available_readers, libav_alone, opencv, ours, transformers_pyav
from flux_hf.scripts.benchmarks.measuring.timing import alternating
from flux_hf.scripts.benchmarks.report import (
    RESULTS,
    alternatives_tables,
    any_model_tables,
    decoding_tables,
    end_to_end_tables,
    frame_choice_tables,
    gpu_tables,
    key_frame_tables,
    model_tables,
    runtimes_tables,
    tables,
)
from tests import stock_models
from tests.test_modeling import SIZES

KINDS = [FileKind(3, 128, 96, 12), FileKind(2, 128, 96, 250), FileKind(3, 128, 96, 20, "libvpx-vp9")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_are_what_they_say(kind, tmp_path):
    path = video_file(kind, tmp_path)
    seen = []
    frames, metadata = read_video(path, lambda metadata: seen.extend(metadata.key_frames) or range(kind.seconds * 30))
    assert frames.shape == (kind.seconds * 30, kind.height, kind.width, 3) and metadata.fps == pytest.approx(
        30, rel=0.02
    )
    assert seen == list(range(0, kind.seconds * 30, kind.key_every))
    assert np.abs(np.diff(frames[:20].astype(int), axis=0)).mean((1, 2, 3)).min() > 1
    changed = path.stat().st_mtime_ns
    assert video_file(kind, tmp_path) == path and path.stat().st_mtime_ns == changed
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == kind.seconds * 30


def test_everything_takes_turns():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b"), "c": lambda: 1 / 0}
    result = alternating(runs, 3)
    assert order == ["a", "b"] * 4
    assert (
        result["a"]["repeats"] == 3 and result["a"]["spread"][0] <= result["a"]["seconds"] <= result["a"]["spread"][1]
    )
    assert result["c"] == {"error": "ZeroDivisionError: division by zero"}
    order.clear()
    result = alternating(runs, 3, most_seconds=0)
    assert order == ["a", "b"] and result["a"]["repeats"] == 0 and result["a"]["seconds"] > 0


def test_readers_read_the_same_frames(tmp_path):
    path = str(video_file(KINDS[0], tmp_path))
    readers, missing = available_readers()
    assert {"exact", "fast", "transformers pyav"} <= set(readers) and not set(readers) & set(missing)
    exact = ours("exact")(path, 6)
    assert np.array_equal(exact, read_video(path, segment_middles(90, 6))[0])
    assert np.array_equal(exact, transformers_pyav(path, 6))
    if "OpenCV" in readers:
        assert np.abs(opencv(path, 6).astype(int) - exact).mean() < 4


def test_libav_alone_decodes_what_it_must_and_no_more(tmp_path):
    often, once, vp9 = (str(video_file(kind, tmp_path)) for kind in KINDS)
    assert libav_alone(often, 1, "fast")() == libav_alone(vp9, 1, "fast")() == 1
    # Middles 11, 33, 55 and 78 of groups of 20: what comes before them in their groups is needed, no frame is left out.
    assert segment_middles(90, 4).tolist() == [11, 33, 55, 78]
    assert libav_alone(vp9, 4, "exact")() == 12 + 14 + 16 + 19
    last = segment_middles(60, 2)[-1]
    assert 2 <= libav_alone(once, 2, "exact")() < last


@pytest.mark.long
def test_decoding_command(tmp_path, monkeypatch, warm_measurements):
    from flux_hf.scripts.benchmarks.decoding import main
    from flux_hf.scripts.benchmarks.measuring import files

    monkeypatch.setattr(files, "QUICK_FILES", KINDS[:1])
    monkeypatch.setattr(files, "MEMORY_FILES", (FileKind(1, 128, 96, 12), KINDS[0]))
    output = tmp_path / "decoding.json"
    main(["--quick", "--output", str(output), "--files", str(tmp_path)])
    result = json.loads(output.read_text())
    assert {"command", "date", "machine", "versions", "options", "missing"} <= set(result)
    (row,) = result["decoding"]
    assert row["file"] == KINDS[0].name and row["num_frames"] == 8
    assert set(row["libav_alone"]) == {"exact", "fast"}
    assert result["memory_files"] == ["1 s 128x96 H.264, key frame every 12", KINDS[0].name]
    assert [(row["decoding"], row["num_frames"]) for row in result["memory"]] == [("exact", 8), ("fast", 8)]
    assert all(min(row["long_kilobytes"], row["short_kilobytes"]) > 2**15 for row in result["memory"])
    assert KINDS[0].name in decoding_tables(result)["speed"]


def test_alternatives_command(tmp_path, monkeypatch):
    from flux_hf.scripts.benchmarks.alternatives import main
    from flux_hf.scripts.benchmarks.measuring import files

    monkeypatch.setattr(files, "WEBM_FILES", KINDS[2:])
    monkeypatch.setattr(files, "SCALED_FILES", KINDS[:1])
    output = tmp_path / "alternatives.json"
    main(["--size", "48", "--repeats", "2", "--output", str(output), "--files", str(tmp_path)])
    result = json.loads(output.read_text())
    (webm,), (scaled,) = result["webm"], result["scaled"]
    assert webm["file"] == KINDS[2].name and webm["runs"]["fast"]["repeats"] == 2
    assert all(webm["runs"][name]["seconds"] > 0 for name in ("fast", "pass"))
    assert 0 < scaled["pixel_difference"] < 16
    seconds = [scaled["runs"][name]["seconds"] for name in ("full", "scaled")]
    assert all(f"| {1000 * each:.0f} (" in alternatives_tables(result)["scaled"] for each in seconds)


def test_what_alternatives_give(tmp_path):
    path = str(video_file(KINDS[2], tmp_path))
    assert count_packets(path) == 90
    runs = full_and_scaled(path, 4, 48)
    full, scaled = runs["full"](), runs["scaled"]()
    assert full.shape == scaled.shape == (1, 4, 3, 48, 48) and 0 <= full.min() < full.max() <= 1
    assert pixel_difference(runs) == pytest.approx(255 * (full - scaled).abs().mean().item(), rel=1e-4)


@pytest.mark.parametrize("budget", [24, 64])
@torch.no_grad()
def test_naive_forward_computes_the_same(budget):
    torch.manual_seed(0)
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm | ChannelAffine):
            module.weight.add_(0.2 * torch.randn_like(module.weight))
    video = torch.randn(2, 4, 3, 56, 56)
    torch.testing.assert_close(
        NaiveForward(model)(video, budget), model(video, token_budget=budget).logits, atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_the_floor_does_all_matrix_products():
    """As many multiply-accumulates as a forward, but for the classifier."""
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES)).eval()
    run = matmuls_and_attention(model, 2, 64, 24)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    classifier = SIZES["projection_dim"] * SIZES["num_labels"]
    assert counter.get_total_flops() == 2 * 2 * (forward_macs(model.config, 24, 64) - classifier)
    chosen = selection_and_positions(model, 2, (4, 4, 4), 24)()
    assert chosen.shape == (2, 25, 32)


def test_the_floor_of_a_training_step_does_all_matrix_products():
    """Those of a step, but for the classifier and the heads that are not in use."""
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES, token_budget=24)).train()
    run = matmuls_and_attention(model, 2, 64, 24, backward=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    assert all(parameter.grad is None for parameter in model.parameters())
    floor = counter.get_total_flops()
    video = torch.randn(2, 4, 3, 56, 56)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(video, head_index=0).logits.sum().backward()
    classifier = 3 * 2 * 2 * SIZES["projection_dim"] * SIZES["num_labels"]
    assert counter.get_total_flops() - classifier == floor


def test_gpu_command_on_a_cpu(tmp_path, monkeypatch):
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    from flux_hf.scripts.benchmarks.gpu import main
    from flux_hf.scripts.benchmarks.measuring import peers

    tiny = {"image_size": 32, "num_frames": 4, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    tiny |= {"num_hidden_layers": 1}
    peer = peers.Peer(
        "tiny", lambda: VideoMAEForVideoClassification(VideoMAEConfig(**tiny)), "pixel_values", (4, 3, 32, 32), 1
    )
    monkeypatch.setattr(peers, "PEERS", [peer])
    (tmp_path / "fluxvit_tiny.json").write_text(json.dumps(SIZES | {"num_hidden_layers": 1}))
    options = ["--device", "cpu", "--models", "tiny", "--configs", str(tmp_path), "--batch_sizes", "2", "1"]
    options += ["--token_budgets", "32", "128", "--compiled_clips", "0", "--repeats", "1", "--output"]
    main([*options, str(tmp_path / "gpu.json")])
    result = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["mode"], row["model"], row["token_budget"], row["clips"]): row["runs"] for row in result["rows"]}
    ours = {
        (mode, "tiny", budget, clips) for mode in ("forward", "training") for budget in (32, 128) for clips in (1, 2)
    }
    assert set(rows) == ours | {("forward", "tiny", None, 1), ("training", "tiny", None, 1)}
    assert result["left_out"] == [] and not [run for runs in rows.values() for run in runs.values() if "error" in run]
    for (mode, _, budget, _), runs in rows.items():
        assert set(runs) == {mode} | ({"floor"} if budget else set())
    made = gpu_tables(result)
    head, _, *lines = lines_of(made["forward"])
    cells = dict(zip(head, lines[0], strict=False))  # a CPU has no memory in the last
    forward, floor = (rows["forward", "tiny", 32, 1][name]["seconds"] for name in ("forward", "floor"))
    assert cells["forward"] == f"{1000 * forward:.2f}" and cells["forward / floor"] == f"{forward / floor:.2f}"
    assert [line[3:5] for line in lines_of(made["budgets"])[2:]] == [["128", "32"]] * 4


def test_gpu_command_names_what_it_left_out(tmp_path):
    from flux_hf.scripts.benchmarks.gpu import main

    output = tmp_path / "gpu.json"
    options = [
        "--device",
        "cpu",
        "--modes",
        "training",
        "--peers",
        "false",
        "--batch_sizes",
        "2",
        "--most_seconds",
        "-1",
    ]
    main([*options, "--compiled_clips", "0", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["rows"] == [] and result["left_out"] == [["rows_of_batch", "training", 2]]
    with pytest.raises(ValueError, match="modes must be some of forward, training, got .'backward'"):
        main(["--device", "cpu", "--modes", "backward", "--output", str(output)])


@pytest.mark.slow
def test_model_command(tmp_path):
    from flux_hf.scripts.benchmarks.model import main

    (tmp_path / "fluxvit_small.json").write_text(json.dumps(SIZES))
    output = tmp_path / "model.json"
    main(["--quick", "--output", str(output), "--configs", str(tmp_path)])
    rows = json.loads(output.read_text())["model"]
    assert [row["token_budget"] for row in rows] == [512, 2048]
    for row in rows:
        assert sum(row["shares"].values()) == pytest.approx(1) and all(share >= 0 for share in row["shares"].values())
        assert row["difference_to_naive"] < 1e-3
        assert {"forward", "floor", "naive"} <= row["runs"].keys()


def test_memory_is_what_the_code_takes():
    """In a process of its own: neither this one's memory nor what came before counts."""
    ballast = np.ones((40, 1024, 1024))
    taken = added_kilobytes("content = bytearray(100 << 20); del content", "content = bytearray(30 << 20); del content")
    assert 29 << 10 <= taken < 40 << 10
    nothing = peak_kilobytes("pass")
    assert nothing < 2**16 < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = peak_kilobytes("import sys; held = b'x' * (int(sys.argv[1]) << 20); del held", "200")
    assert nothing + (190 << 10) < held < nothing + (260 << 10) < ballast.nbytes >> 10
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        peak_kilobytes("1 / 0")


@pytest.mark.long
def test_memory_of_a_forward_grows_with_its_tokens(tmp_path, warm_measurements):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SIZES | {"patch_size": 2, "position_size": 8}))
    few, many = (forward_kilobytes(config, 8, budget, (16, 32)) for budget in (64, 4000))
    assert many - few > 8 * 3900 * SIZES["hidden_size"] * 4 >> 10


@torch.no_grad()
def test_grids_of_a_budget():
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES)).eval()
    grids = grids_of_budget(40, model.config.patch_size)
    assert len({frames for frames, _ in grids}) == 3 and len({side for _, side in grids}) == 1
    runs = runs_on_grids(model, 40, 2, grids)
    for frames, side in grids:
        assert runs[f"{frames}x{side}"]().keep_mask.sum(1).tolist() == [40, 40]
        assert runs[f"{frames}x{side} patches"]().shape[:2] == (2, frames)


TIMED = {"seconds": 0.1234, "spread": [0.1, 0.2], "repeats": 3}


def lines_of(made: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in made.splitlines() if line.startswith("|")]


def test_table_of_decoding():
    readers = {"exact": TIMED, "fast": TIMED | {"seconds": 0.011}, "other": {"error": "ValueError: no"}}
    readers |= {"slow": TIMED | {"seconds": 1.1}, "best": TIMED | {"seconds": 0.33}}
    row = {"file": "a file", "num_frames": 8, "readers": readers}
    row |= {"libav_alone": {"exact": TIMED, "fast": TIMED | {"seconds": 0.0066}}}
    memory = [{"decoding": "fast", "num_frames": 8, "short_kilobytes": 2**20, "long_kilobytes": 3 * 2**19}]
    result = {"decoding": [row], "missing": {"peer": "ImportError: gone"}, "memory_files": ["a", "b"], "memory": memory}
    made = decoding_tables(result)
    head, _, line = lines_of(made["speed"])
    cells = dict(zip(head, line, strict=True))
    assert (cells["fast"], cells["other"]) == ("11 (100-200)", "failed")
    assert cells["fast / best peer (limit)"] == "30.0x (50.0x)"
    assert "peer (ImportError: gone), other (ValueError: no)" in made["speed"].replace(").\n\nNot measured: ", "), ")
    assert lines_of(made["memory"])[-1] == ["fast", "8", "1024", "1536", "1.50"]


def test_table_of_model():
    def row(budget, batch, forward):
        runs = {"forward": TIMED | {"seconds": forward}, "floor": TIMED | {"seconds": 0.1}}
        runs |= {"naive": TIMED | {"seconds": 0.4}, "selection and positions": TIMED | {"seconds": forward / 50}}
        shares = {"matmuls": 0.75, "other": 0.25}
        return {"model": "m", "token_budget": budget, "batch": batch, "grid": [8, 96], "gmacs": 1, "runs": runs} | {
            "shares": shares
        }

    memory = [
        {"model": "m", "batch": 2, "token_budget": tokens, "grid": [8, 96]}
        | {"forward_kilobytes": 1024 * kilobytes, "patches_kilobytes": 1024}
        for tokens, kilobytes in ((1, 30), (2, 50), (4, 90))
    ]
    runs = {"8x96": 5, "8x96 patches": 2, "16x96": 7, "16x96 patches": 1}
    grids = [{"model": "m", "token_budget": 9, "runs": {name: TIMED | {"seconds": s} for name, s in runs.items()}}]
    rows = [row(512, 1, 0.9), row(1024, 1, 0.2), row(2048, 1, 0.11)]
    made = model_tables({"model": rows, "memory": memory, "grids": grids})
    head, _, *lines = lines_of(made["forward"])
    assert [dict(zip(head, line, strict=True))["naive / forward"] for line in lines] == ["0.44", "2.00", "3.64"]
    assert lines_of(made["over_floor"])[-1] == ["m", "1", "1.10 to 2.00"]
    assert lines_of(made["shares"])[-1] == ["m", "2048", "1", "75.0", "25.0", "2.0"]
    assert [line[-1] for line in lines_of(made["memory"])[2:]] == ["30", "50", "90"]
    assert [line[-2:] for line in lines_of(made["grids"])[2:]] == [["3000", "1.00"], ["6000", "2.00"]]


def test_table_of_runtimes():
    runs = {"float32": TIMED | {"seconds": 0.2, "difference": 0.0123}, "openvino": {"error": "RuntimeError: no"}}
    row = {"model": "m", "token_budget": 9, "batch": 2, "auto": "bfloat16", "runs": runs}
    other = row | {"auto": "float32", "runs": {"onnx": TIMED | {"seconds": 0.0125}}}
    made = runtimes_tables({"runtimes": [row, other]})
    assert lines_of(made["differences"])[2] == ["m", "9", "2", "0.01"]
    head, _, *lines = lines_of(made["forward"])
    assert head == ["model", "tokens", "clips", "float32", "openvino", "onnx", "dtype auto took"]
    assert lines == [["m", "9", "2", "200.00", "failed", "", "bfloat16"], ["m", "9", "2", "", "", "12.50", "float32"]]


def test_results_of_two_machines_stand_beside_each_other(tmp_path):
    results = {name: read_json(RESULTS / f"{name}.json") for name in ("model", "any_model_cuda")}
    write_json(tmp_path / "model.json", results["model"])
    write_json(tmp_path / "model_xeon.json", results["model"] | {"model": results["model"]["model"][:8]})
    write_json(tmp_path / "any_model_xeon.json", results["any_model_cuda"])
    made = tables(tmp_path)
    assert made["benchmarks.model.over_floor"].startswith(made["benchmarks.model_xeon.over_floor"])
    assert {"benchmarks.model_xeon", "benchmarks.any_model_xeon.speed"} <= made.keys()


def test_table_of_end_to_end():
    models = {"FluxViT-S": TIMED | {"seconds": 0.777}, "Slow": TIMED | {"seconds": 60, "repeats": 0}}
    result = {"end_to_end": [{"file": "b", "models": models}]}
    made = end_to_end_tables(result | {"inputs": {"FluxViT-S": [1, 12, 3, 168, 168]}})
    assert "777 (100-200)" in made["labels"] and made["labels"].endswith("without a run before: Slow.")
    assert lines_of(made["inputs"])[-1] == ["FluxViT-S", "12", "168"]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["VideoMAE-B", "V-JEPA 2-L"])
def test_runs_of_a_foreign_model(name):
    """Kept are as many tokens as the name of a run says, on the stock model's weights and clips."""
    runs, described = runs_of(name, 2, torch.float32, "cpu", [1, 2, 4], tiny=True)
    assert described["grid"] == [8, 32, 32] and list(described["tokens"].values()) == [64, 64, 32, 16, 16]
    torch.testing.assert_close(runs["1/1"]().logits, runs[STOCK]().logits)
    assert [runs[case]().keep_mask.sum(1).tolist() for case in ("1/2", "1/4")] == [[32, 32], [16, 16]]
    chosen = runs[SELECTION]()
    assert chosen.last_hidden_state.shape == (2, 16, 24)
    assert torch.equal(chosen.keep_mask, runs["1/4"]().keep_mask)
    assert not torch.equal(runs["1/4"]().logits, runs[STOCK]().logits)


@torch.inference_mode()
def test_the_selection_of_a_foreign_model_is_timed_without_layers():
    model, pixels = enable_flux(stock_models.videomae().eval()), torch.randn(2, 4, 3, 32, 32)
    chosen = without_encoder(model)(pixels, token_budget=12)
    tokens = model.flux_encoder.embed_patches(pixels).flatten(1, 3)
    assert torch.equal(chosen.last_hidden_state, take_tokens(tokens, kept_positions(chosen.keep_mask, 12)))
    assert not torch.equal(model.flux_encoder(pixels, token_budget=12).last_hidden_state, chosen.last_hidden_state)


@pytest.mark.slow
def test_memory_of_a_foreign_model():
    all_tokens, few = (cpu_kilobytes("VideoMAE-B", 256, "float32", case, [1, 8], tiny=True) for case in ("1/1", "1/8"))
    assert all_tokens - few > 256 * 56 * 24 * 4 >> 10


def test_any_model_command(tmp_path):
    from flux_hf.scripts.benchmarks.any_model import main

    main(["--quick", "--models", "V-JEPA 2-L", "--output", str(tmp_path / "found.json")])
    result = json.loads((tmp_path / "found.json").read_text())
    (row,) = result["any_model"]
    assert {*row["runs"]} == {*row["tokens"]} == {STOCK, "1/1", "1/4", SELECTION}
    assert row["difference"] == 0 and all(entry["repeats"] == 2 for entry in row["runs"].values())
    lines = lines_of(any_model_tables(result)["speed"])
    assert [line[:5] for line in lines[2:]] == [
        ["V-JEPA 2-L", "1", "8x32", case, str(tokens)] for case, tokens in row["tokens"].items()
    ]
    assert lines[2][6] == "1.0x" and lines[-1][6] == ""


def test_frame_choice_command(tmp_path, monkeypatch):
    from flux_hf.scripts.benchmarks.frame_choice import main
    from flux_hf.scripts.benchmarks.measuring import files

    monkeypatch.setattr(files, "FILES", KINDS[:2])
    options = [
        "--num_frames",
        "4",
        "--repeats",
        "1",
        "--files",
        str(tmp_path),
        "--output",
        str(tmp_path / "found.json"),
    ]
    main(options)
    result = json.loads((tmp_path / "found.json").read_text())
    decoded = [[choice["decoded"] for choice in row["choices"].values()] for row in result["files"]]
    # 90 frames with a key frame every 12: middles 11, 33, 55 and 78; before, key frames 12, 36, 60 and 72.
    # 60 frames with one key frame: middles up to 51, before the first frame of the last segment, 45.
    assert decoded[0][:2] == [12 + 10 + 8 + 7, 4] and 4 <= decoded[0][2] < 37
    assert decoded[1] == [52, 46, 52]
    head, _, *lines = lines_of(frame_choice_tables(result)["files"])
    assert lines[1][:5] == [KINDS[1].name, "4", "52", "46", "52"]


def test_key_frames_command(tmp_path, monkeypatch, tiny_checkpoint):
    from flux_hf.scripts.benchmarks.keyframes import main
    from flux_hf.scripts.benchmarks.measuring import files
    from flux_hf.scripts.benchmarks.measuring.key_frames import accuracy_of_films
    from tests.video_files import encode_video

    monkeypatch.setattr(files, "FEW_KEY_FRAMES_FILE", FileKind(3, 128, 96, 15))
    output = tmp_path / "found.json"
    main(["--quick", "--films", "0", "--files", str(tmp_path), "--output", str(output)])
    result = json.loads(output.read_text())
    (row,) = result["time"]
    assert (row["key_frames"], row["taken"]) == (6, list(range(0, 90, 15)))
    assert {"keyframes", "exact", "fast", "transformers pyav"} <= set(row["readers"])
    assert (
        row["gain"]["keyframes"]
        == min(
            found["seconds"] for name, found in row["readers"].items() if name not in row["gain"] and "seconds" in found
        )
        / (row["readers"]["keyframes"]["seconds"])
    )
    head, _, line = lines_of(key_frame_tables(result)["time"])
    assert line[:3] == ["3 s 128x96 H.264, key frame every 15", "6", "6"]

    for label in ("label 1", "label 2"):
        path = tmp_path / "films" / "test" / label / "film.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_video(90, options={"g": "15", "sc_threshold": "0"}))
    found = {"films": "key frame every 15", **accuracy_of_films(tmp_path / "films", str(tiny_checkpoint))}
    grids = {mode: list(figures[96]["grids_used"]) for mode, figures in found["modes"].items()}
    assert grids == {"fast": ["8x70"], "exact": ["8x70"], "keyframes": ["6x84"]} and found["count"] == 2
    lines = lines_of(key_frame_tables({"time": [], "accuracy": [found]})["accuracy"])[2:]
    assert lines[2][:3] == ["key frame every 15 (2)", "keyframes", "6x84"]


def test_frame_choice_of_clips(tmp_path, tiny_checkpoint):
    from flux_hf.scripts.benchmarks.frame_choice import main
    from tests.video_files import encode_video

    for label in ("label 1", "label 2"):
        path = tmp_path / "clips" / "test" / label / "clip.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_video(40, options={"g": "250", "sc_threshold": "0"}))
    output, options = tmp_path / "found.json", ["--checkpoint", str(tiny_checkpoint), "--splits", "test"]
    main(["--data", str(tmp_path / "clips"), *options, "--output", str(output)])
    result = json.loads(output.read_text())
    (row,) = result["data"]
    assert (row["clips"], row["one_key_frame"]) == (2, 2)
    found = {name: (choice["decoded"], choice["middles"]) for name, choice in row["choices"].items()}
    # The last grid has 6 frames: middles 3, 9, 16, 22, 29 and 35; before, first frames up to 33.
    assert found == {"exact": (36, 2), "before": (34, 0), "fast": (36, 2)}
    assert row["choices"]["exact"]["top1"] == row["choices"]["fast"]["top1"] and {*row["choices"]["fast"]["top1"]} == {
        "96",
        "48",
    }
    line = lines_of(frame_choice_tables(result)["clips"])[2]
    assert line[:4] == ["clips (2, 2 with one key frame)", "exact", "36.0", "2"]
