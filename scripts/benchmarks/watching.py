"""Measure how late the answers of a watch are beside other programs, and its memory over an hour; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import check_at_least, parse_options

COMMAND = "scripts/benchmarks/watching.py"


@dataclass
class WatchingOptions:
    output: str = field(default="scripts/benchmarks/results/watching.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder of the videos, made when missing."})
    rates: list[int] = field(default_factory=lambda: [25, 60], metadata={"help": "Pictures per second."})
    models: list[str] = field(
        default_factory=lambda: ["nano", "small"],
        metadata={"help": "nano, the default checkpoint, and small, random weights at 2048, 1024 and 512 tokens."},
    )
    seconds: int = field(default=60, metadata={"help": "Of each video; other programs work in its second third."})
    width: int = field(default=1280, metadata={"help": "Of the videos, in pixels."})
    height: int = field(default=720, metadata={"help": "Of the videos, in pixels."})
    busy: int = field(default=1, metadata={"help": "Programs that compute beside the watch."})
    latency: float = field(default=0.5, metadata={"help": "Seconds that an answer may take."})
    stride: float = field(default=0.25, metadata={"help": "Shortest time in seconds between two answers."})
    hours: float = field(default=1.0, metadata={"help": "Of video for the slope of memory."})
    speed: float = field(default=20.0, metadata={"help": "How many times as fast that video passes."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(WatchingOptions, argv, __doc__)
    check_at_least(1, options, "rates", "seconds", "speed")
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.watching import memory_over_time, moving_texture, under_load

    folder, rows = Path(options.files), []
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"width": options.width, "height": options.height}
    for name in options.models:
        model, processor = _classifier(name)
        for rate in options.rates:
            file = f"texture_{options.width}x{options.height}_{options.seconds}s_{rate}.mp4"
            path = moving_texture(folder / file, options.seconds, rate, key_every=2 * rate, **sizes)
            run = {name: getattr(options, name) for name in ("seconds", "busy", "latency", "stride")}
            rows.append({"model": name, "rate": rate} | under_load(path, model, processor, **run))
            print(json.dumps({key: value for key, value in rows[-1].items() if key != "over_time"}), flush=True)
    model, processor = _classifier("nano")
    file = f"texture_320x240_{options.hours}h_10.mp4"
    path = moving_texture(folder / file, 3600 * options.hours, 10, width=320, height=240, key_every=20)
    memory = memory_over_time(path, model, processor, speed=options.speed, stride=2.0, latency=20.0)
    print(json.dumps(memory))
    result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "watching": rows, "memory": memory}
    write_json(Path(options.output), result)


def _classifier(name: str) -> tuple:
    import torch

    from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, default_checkpoint
    from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
    from flux_hf.options.recipes import model_config_path

    if name == "nano":
        folder = default_checkpoint()
        model = FluxViTForVideoClassification.from_pretrained(folder)
        return model.eval(), FluxVideoProcessor.from_pretrained(folder)
    torch.manual_seed(0)
    config = FluxViTConfig.from_json_file(model_config_path(f"fluxvit_{name}"))
    config.head_token_budgets = [2048, 1024, 512]
    return FluxViTForVideoClassification(config).eval(), FluxVideoProcessor()


if __name__ == "__main__":
    run_command(COMMAND, main)
