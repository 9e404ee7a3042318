"""Measure steps of pre-training against their arithmetic floor, and the teacher's share; writes JSON.

The floor of a step is three times the multiply-accumulates of the students' forward, decoders included (one forward,
two for the backward), and once those of the teacher's, over the rate of matrix products that the same machine reaches
in the same run. Clips are noise; weights are random.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.scripts.benchmarks.measuring.steps import CONFIGS, StepOptions, logged_seconds, step_arguments

COMMAND = "scripts/benchmarks/pretraining.py"


@dataclass
class BenchmarkOptions(StepOptions):
    output: str = field(default="scripts/benchmarks/results/pretraining.json", metadata={"help": "JSON file to write."})
    teacher_config: str = field(
        default=f"{CONFIGS}/fluxvit_micro.json", metadata={"help": "JSON config of a FluxViT as the teacher."}
    )
    token_budgets: list[int] = field(
        default_factory=lambda: [256, 128, 64], metadata={"help": "Budgets of the students, descending."}
    )
    teacher_tokens: int = field(default=288, metadata={"help": "Tokens that the selector leaves."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BenchmarkOptions, argv, __doc__)
    import torch

    from flux_hf.costs import forward_macs, forward_macs_at_budgets
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.matrix_products import matmul_rate

    with tempfile.TemporaryDirectory(prefix="flux_benchmark_") as folder:
        trainer = _trainer(options, Path(folder))
        trainer.train()
    seconds = logged_seconds(trainer, "step_seconds", "teacher_seconds", "data_seconds")
    student, teacher = trainer.model.config, trainer.teacher.model.config
    macs = forward_macs_at_budgets(student, options.token_budgets, options.token_budgets[0])
    layers = len(trainer.model.aligned_layers) * student.hidden_size * student.teacher_hidden_size
    pooled = student.projection_dim * student.teacher_projection_dim
    macs += sum(layers * budget + pooled for budget in options.token_budgets)
    teacher_macs = forward_macs(teacher, options.teacher_tokens)
    rate = matmul_rate(dtype=torch.bfloat16 if options.bf16 else torch.float32)
    result = provenance(f"python {COMMAND}", argv) | {
        "options": vars(options),
        **seconds,
        "gmacs_student_forward_per_clip": macs / 1e9,
        "gmacs_teacher_forward_per_clip": teacher_macs / 1e9,
        "matmul_gmacs_per_second": rate / 1e9,
    }
    write_json(options.output, result)
    print(json.dumps(result, indent=1))


def _trainer(options: BenchmarkOptions, folder: Path):
    import numpy as np

    from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForPreTraining, FluxViTModel
    from flux_hf.data import CachedClips
    from flux_hf.pretraining import FluxPreTrainer, FluxPreTrainingArguments, load_teacher

    def processor_of(config: FluxViTConfig) -> FluxVideoProcessor:
        return FluxVideoProcessor(patch_size=config.patch_size, tubelet_size=config.tubelet_size)

    teacher_config = FluxViTConfig.from_json_file(options.teacher_config)
    FluxViTModel(teacher_config).save_pretrained(folder / "teacher")
    processor_of(teacher_config).save_pretrained(folder / "teacher")
    config = FluxViTConfig.from_json_file(options.model_config)
    processor = processor_of(config)
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
    shape = (2 * options.batch_size, options.num_frames, options.size, options.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [f"clip {number}" for number in range(len(pixels))]
    args = FluxPreTrainingArguments(
        **step_arguments(options, folder, config), warmup_steps=0, teacher_tokens=options.teacher_tokens
    )
    return FluxPreTrainer(
        model=FluxViTForPreTraining(config),
        args=args,
        train_dataset=CachedClips(pixels, np.zeros(len(pixels), np.int64), ["noise"], names),
        processing_class=processor,
        teacher=teacher,
    )


if __name__ == "__main__":
    run_command(COMMAND, main)
