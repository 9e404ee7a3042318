"""Train a classifier on a video data set; options on the command line or in one YAML recipe.

flux-hf finetune scripts/configs/recipes/kinetics400_small.yaml --dataset /data/k400 --model checkpoints/k710
torchrun --nproc_per_node 8 scripts/finetune.py recipe.yaml ...      # several processes; on CPUs also --use_cpu
accelerate launch --config_file scripts/configs/accelerate/fsdp.yaml scripts/finetune.py recipe.yaml ...
"""

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, naming_split, parse_options
from flux_hf.training import FinetuneOptions, FluxTrainingArguments, finetune
from flux_hf.training.output_folder import interruptible


def main(argv: list[str] | None = None) -> None:
    options, training_args = parse_options((FinetuneOptions, FluxTrainingArguments), argv, __doc__)
    check_checkpoints(model=options.model)
    with naming_split(options, "train_split", "eval_split"), interruptible("finetune", argv, training_args):
        finetune(options, training_args)


if __name__ == "__main__":
    run_command("finetune", main)
