"""Accuracy on the manipulation clips against the number of training clips a task, from the default checkpoint and from
random weights.

python scripts/experiments/manipulation_clips/few_clips.py --data data/manipulation --output few_clips.json

Both train with the recipe own_clips on the same clips for the same number of steps, and are tested on the whole test
split. Rows that are in the JSON file are not computed again; several processes need a file each.
"""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import parse_options

COMMAND = "scripts/experiments/manipulation_clips/few_clips.py"
STARTS = ("default", "random")
KEY = ("start", "clips", "seed")


@dataclass
class FewClipsOptions:
    data: str = field(metadata={"help": "Folder of the manipulation clips."})
    output: str = field(metadata={"help": "JSON file to write and to go on from."})
    checkpoint: str = field(default="default", metadata={"help": "What the start `default` is."})
    model_config: str = field(default="fluxvit_nano", metadata={"help": "Configuration of random weights."})
    starts: list[str] = field(default_factory=lambda: list(STARTS), metadata={"help": "Some of default, random."})
    clips: list[int] = field(default_factory=lambda: [5, 20, 100], metadata={"help": "Training clips a task."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Each draws its own clips."})
    epochs: float = field(default=30, metadata={"help": "Epochs of training."})
    min_steps: int = field(default=600, metadata={"help": "Steps at least."})
    cache_dir: str = field(default="data/cache", metadata={"help": "Where decoded clips are kept."})
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU although there is a GPU."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(FewClipsOptions, argv, __doc__)
    if unknown := sorted(set(options.starts) - set(STARTS)):
        raise ValueError(f"--starts: some of {', '.join(STARTS)}, got {', '.join(unknown)}")
    from flux_hf.data import cache_clips, load_video_dataset
    from flux_hf.files import read_json, write_json
    from flux_hf.provenance import provenance

    train, test = (load_video_dataset(options.data, split) for split in ("train", "test"))
    cached = cache_clips(train, options.cache_dir, num_frames=16, size=121)
    output = Path(options.output)
    rows = read_json(output)["rows"] if output.exists() else []
    there = {tuple(row[name] for name in KEY) for row in rows}
    for seed in options.seeds:
        for clips in options.clips:
            for start in options.starts:
                if (start, clips, seed) not in there:
                    rows.append(one_row(options, cached, test, start, clips, seed))
                    print(json.dumps(rows[-1]), flush=True)
                    head = provenance(f"python {COMMAND}", argv) | {"options": vars(options)}
                    write_json(output, head | {"rows": rows})


def some_of_each(cached, clips: int, seed: int):
    """`clips` of every label; those of a smaller number are among those of a larger one.

    Raises:
        ValueError: a label has fewer.
    """
    import numpy as np

    from flux_hf.data import CachedClips

    generator, chosen = np.random.default_rng(seed), []
    for label, name in enumerate(cached.label_names):
        members = generator.permutation(np.flatnonzero(cached.labels == label))
        if len(members) < clips:
            raise ValueError(f"{name} has {len(members)} clips, --clips {clips} needs more")
        chosen += members[:clips].tolist()
    names = [cached.video_names[index] for index in chosen]
    return CachedClips(cached.clips[chosen], cached.labels[chosen], cached.label_names, names)


def one_row(options: FewClipsOptions, cached, test, start: str, clips: int, seed: int) -> dict:
    """Train once and test at every budget."""
    from transformers import set_seed

    from flux_hf.checkpoints import checkpoint_path
    from flux_hf.evaluation import evaluate
    from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
    from flux_hf.training import FluxTrainer, FluxTrainingArguments
    from flux_hf.training.starting_model import starting_model

    set_seed(seed)
    source = {"checkpoint": options.checkpoint} if start == "default" else {"config_file": options.model_config}
    model = starting_model(cached.label_names, **source)
    processor = FluxVideoProcessor.from_pretrained(checkpoint_path(options.checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        args = FluxTrainingArguments.from_recipe(
            "own_clips",
            num_train_epochs=options.epochs,
            min_steps=options.min_steps,
            seed=seed,
            output_dir=folder,
            use_cpu=options.use_cpu,
            dataloader_num_workers=0,
            dataloader_persistent_workers=False,
            augment_on_device=True,
            eval_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        began = time.perf_counter()
        train = some_of_each(cached, clips, seed)
        trainer = FluxTrainer(model=model, args=args, train_dataset=train, processing_class=processor)
        trainer.train()
        seconds = time.perf_counter() - began
    found = evaluate(test, model.eval(), processor, model.token_budgets)
    return {
        "start": start,
        "clips": clips,
        "seed": seed,
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "videos": found["num_videos"],
        "top1": {str(budget): figures["top1"] for budget, figures in found["budgets"].items()},
    }


if __name__ == "__main__":
    run_command(COMMAND, main)
