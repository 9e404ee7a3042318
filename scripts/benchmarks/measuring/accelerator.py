"""Forwards and training steps of FluxViT and its peers on one device, all of a batch size taking turns."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.costs import forward_macs
from flux_hf.processing.grid_fluxvit import choose_grid, grid_tokens
from flux_hf.scripts.benchmarks.measuring import peers
from flux_hf.scripts.benchmarks.measuring.device import Run, captured, peak_bytes
from flux_hf.scripts.benchmarks.measuring.floor import matmuls_and_attention
from flux_hf.scripts.benchmarks.measuring.timing import alternating

HALF = torch.bfloat16


def rows_of_batch(models: dict[str, Path], mode: str, batch: int, options) -> list[dict]:
    """One row for every model and budget, and for every peer whose clips are not too many: `mode`, `model`,
    `token_budget` (None for a peer), `clips`, `grid`, `gmacs`, `runs` and `peak_bytes` (None on a CPU).

    `runs` are "forward" and "graph", or "training", and "floor" of FluxViT."""
    rows, runs = [], {}
    for name, config_file in models.items():
        model, half = _flux(config_file, options.device)
        for budget in options.token_budgets:
            row, inputs, floor = _flux_case(half, mode, budget, batch)
            rows.append({"mode": mode, "model": name} | row)
            runs[len(rows) - 1] = _runs_of(mode, model, half, inputs, options.device) | {"floor": floor}
    for peer in peers.PEERS if options.peers else ():
        if batch > peer.most_clips:
            continue
        model = _on(peer.make, options.device)
        inputs = {peer.pixels: _pixels(batch, peer.shape, options.device)}
        frames, _, *sides = peer.shape
        rows.append({"mode": mode, "model": peer.name, "token_budget": None, "clips": batch, "grid": [frames, *sides]})
        half = _half(model) if mode == "forward" else None
        runs[len(rows) - 1] = _runs_of(mode, model, half, inputs, options.device)
    _measure(rows, runs, mode, options, options.most_seconds_each)
    return rows


def compiled_rows(models: dict[str, Path], mode: str, batch: int, options) -> Iterator[dict]:
    """Rows as of [`rows_of_batch`] with the run "compiled", and "compiled graph" of a forward, at one budget."""
    for name, config_file in models.items():
        torch.compiler.reset()
        model, half = _flux(config_file, options.device)
        row, inputs, floor = _flux_case(half, mode, options.compiled_budget, batch)
        in_one_graph = torch.compile(half if mode == "forward" else model, fullgraph=True, dynamic=False)
        runs = _runs_of(mode, model, half, inputs, options.device)
        compiled = _runs_of(mode, in_one_graph, in_one_graph, inputs, options.device)
        named = {"forward": "compiled", "training": "compiled", "graph": "compiled graph"}
        runs |= {named[run]: call for run, call in compiled.items()} | {"floor": floor}
        rows = [{"mode": mode, "model": name} | row]
        _measure(rows, {0: runs}, mode, options, float("inf"))  # the uncounted run compiles
        yield rows[0]


def _flux(config_file: Path, device: str) -> tuple[nn.Module, nn.Module]:
    """A model in float32 and one in bf16."""
    model = _on(lambda: FluxViTForVideoClassification(FluxViTConfig.from_json_file(config_file)), device)
    return model, _half(model)


def _on(make: Callable[[], nn.Module], device: str) -> nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        return make().to(device)


def _half(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(HALF).eval()


def _pixels(batch: int, shape: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.randn(batch, *shape, device=device, dtype=HALF)


def _flux_case(half: nn.Module, mode: str, budget: int, batch: int) -> tuple[dict, dict, Run]:
    """What a row says of it, the inputs of the forward, and the floor."""
    config = half.config
    grid = choose_grid(budget, config.patch_size)
    tokens = grid_tokens(grid, config.patch_size)
    kept = min(budget, tokens)
    row = {"token_budget": budget, "clips": batch, "grid": [grid.frames, *grid.pixels()]}
    row["gmacs"] = batch * forward_macs(config, kept, tokens) / 1e9
    pixels = _pixels(batch, (grid.frames, config.num_channels, *grid.pixels()), str(half.device))
    floor = matmuls_and_attention(half, batch, tokens, kept, backward=mode == "training")
    if mode == "forward":
        floor = _captured_if_possible(_without_gradients(floor), half.device.type)
    return row, {"pixel_values_videos": pixels, "token_budget": budget}, floor


def _runs_of(mode: str, model: nn.Module, half: nn.Module, inputs: dict, device: str) -> dict[str, Run]:
    """Named runs: the forward of `half` with and without a graph, or the training step of `model`."""
    if mode == "training":
        return {"training": _training_step(model, inputs, device)}
    forward = _without_gradients(lambda: half(**inputs))
    runs = {"forward": forward}
    if device == "cuda":
        runs["graph"] = _captured_if_possible(forward, device)
    return runs


def _without_gradients(run: Run) -> Run:
    return torch.no_grad()(run)


def _captured_if_possible(run: Run, device: str) -> Run:
    """On a GPU its graph, captured at the first call, so that a failure is that of the run."""
    if device != "cuda":
        return run
    graph = []

    def replay():
        if not graph:
            graph.append(captured(run))
        graph[0]()

    return replay


def _training_step(model: nn.Module, inputs: dict, device: str) -> Run:
    """Forward, backward and AdamW, with no more than one step's gradients in memory."""
    model.train()
    clips = next(value for value in inputs.values() if isinstance(value, torch.Tensor)).shape[0]
    labels = torch.zeros(clips, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step():
        try:
            with torch.autocast(device, HALF):
                loss = model(**inputs, labels=labels).loss
            loss.backward()
            optimizer.step()
        finally:
            optimizer.zero_grad()

    return step


def _measure(rows: list[dict], runs: dict[int, dict[str, Run]], mode: str, options, most_seconds: float) -> None:
    """Time all runs in turns and write them into their rows."""
    named = {(row, name): run for row, of_row in runs.items() for name, run in of_row.items()}
    timed = alternating(named, options.repeats, most_seconds, options.device)
    for index, row in enumerate(rows):
        row["runs"] = {name: entry for (of, name), entry in timed.items() if of == index}
        whole = row["runs"][mode]
        row["peak_bytes"] = None
        if options.device == "cuda" and "error" not in whole:
            row["peak_bytes"] = peak_bytes(runs[index][mode])
    if options.device == "cuda":
        named.clear()
        runs.clear()
        torch.cuda.empty_cache()
