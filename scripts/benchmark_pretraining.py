"""Measure steps of pre-training against their arithmetic floor, and the teacher's share; writes JSON.

The floor of a step is three times the multiply-accumulates of the students' forward (one forward, two for the backward)
and once those of the teacher's, over the rate of matrix products that the same machine reaches in the same run. Clips
are noise; weights are random.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.options import parse_options

CONFIGS = "scripts/configs/models"


@dataclass
class BenchmarkOptions:
    output: str = field(default="benchmark_pretraining.json", metadata={"help": "JSON file to write."})
    model_config: str = field(default=f"{CONFIGS}/fluxvit_nano.json", metadata={"help": "JSON config of the student."})
    teacher_config: str = field(
        default=f"{CONFIGS}/fluxvit_micro.json", metadata={"help": "JSON config of a FluxViT as the teacher."}
    )
    token_budgets: list[int] = field(
        default_factory=lambda: [256, 128, 64], metadata={"help": "Of the students, descending."}
    )
    teacher_tokens: int = field(default=288, metadata={"help": "Tokens that the selector leaves."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the grid."})
    size: int = field(default=96, metadata={"help": "Side of the grid in pixels."})
    batch_size: int = field(default=16, metadata={"help": "Clips in a batch."})
    steps: int = field(default=20, metadata={"help": "Steps that are timed, after two that are not."})
    bf16: bool = field(default=False, metadata={"help": "Train in bf16, and measure matrix products in it."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BenchmarkOptions, argv, __doc__)
    import torch

    from flux_hf.costs import forward_macs
    from flux_hf.measurement import matmul_rate
    from flux_hf.provenance import provenance

    with tempfile.TemporaryDirectory(prefix="flux_benchmark_") as folder:
        trainer = _trainer(options, Path(folder))
        trainer.train()
    timed = [entry for entry in trainer.state.log_history if "step_seconds" in entry][2:]
    seconds = {
        name: sum(entry[name] for entry in timed) / len(timed)
        for name in ("step_seconds", "teacher_seconds", "data_seconds")
    }
    student, teacher = trainer.model.config, trainer.teacher.model.config
    macs = sum(forward_macs(student, budget) for budget in options.token_budgets)
    # Patches are embedded once, for the largest budget.
    patch = student.patch_size**2 * student.num_channels * student.hidden_size
    macs -= patch * sum(options.token_budgets[1:])
    teacher_macs = forward_macs(teacher, options.teacher_tokens)
    rate = matmul_rate(dtype=torch.bfloat16 if options.bf16 else torch.float32)
    floor = options.batch_size * (3 * macs + teacher_macs) / rate
    result = provenance("benchmark-pretraining", argv) | {
        "options": vars(options),
        **seconds,
        "teacher_share": seconds["teacher_seconds"] / seconds["step_seconds"],
        "gmacs_student_forward_per_clip": macs / 1e9,
        "gmacs_teacher_forward_per_clip": teacher_macs / 1e9,
        "matmul_gmacs_per_second": rate / 1e9,
        "floor_seconds": floor,
        "time_over_floor": seconds["step_seconds"] / floor,
    }
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _trainer(options: BenchmarkOptions, folder: Path):
    import numpy as np

    from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForPreTraining, FluxViTModel
    from flux_hf.data import CachedClips
    from flux_hf.pretraining import FluxPreTrainer, FluxPreTrainingArguments, load_teacher

    teacher_config = FluxViTConfig.from_json_file(options.teacher_config)
    FluxViTModel(teacher_config).save_pretrained(folder / "teacher")
    FluxVideoProcessor(patch_size=teacher_config.patch_size).save_pretrained(folder / "teacher")
    config = FluxViTConfig.from_json_file(options.model_config)
    processor = FluxVideoProcessor(patch_size=config.patch_size)
    teacher = load_teacher(
        str(folder / "teacher"),
        patch_size=config.patch_size,
        image_mean=list(processor.image_mean),
        image_std=list(processor.image_std),
    )
    config.update(
        {
            "head_token_budgets": options.token_budgets,
            "teacher_hidden_size": teacher.width,
            "teacher_projection_dim": teacher.pooled_width,
        }
    )
    tokens = options.num_frames * (options.size // config.patch_size) ** 2
    shape = (2 * options.batch_size, options.num_frames, options.size, options.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [f"clip {number}" for number in range(len(pixels))]
    args = FluxPreTrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=options.batch_size,
        max_steps=2 + options.steps,
        logging_steps=1,
        save_strategy="no",
        warmup_steps=0,
        teacher_tokens=options.teacher_tokens,
        min_frames=options.num_frames,
        max_frames=options.num_frames,
        min_size=options.size,
        max_size=options.size,
        min_pool_tokens=tokens,
        max_pool_tokens=tokens,
        bf16=options.bf16,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    return FluxPreTrainer(
        model=FluxViTForPreTraining(config),
        args=args,
        train_dataset=CachedClips(pixels, np.zeros(len(pixels), np.int64), ["noise"], names),
        processing_class=processor,
        teacher=teacher,
    )


if __name__ == "__main__":
    main()
