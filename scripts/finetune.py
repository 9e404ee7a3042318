"""Train a classifier on a video data set; options on the command line or in one YAML recipe.

flux-hf finetune scripts/configs/recipes/kinetics400_small.yaml --dataset /data/k400 --model checkpoints/k710
torchrun --nproc_per_node 8 scripts/finetune.py recipe.yaml ...      # several processes; on CPUs also --use_cpu
accelerate launch --config_file scripts/configs/accelerate/fsdp.yaml scripts/finetune.py recipe.yaml ...
"""

from flux_hf.options import parse_options
from flux_hf.training import FinetuneOptions, FluxTrainingArguments, finetune


def main(argv: list[str] | None = None) -> None:
    print(finetune(*parse_options((FinetuneOptions, FluxTrainingArguments), argv, __doc__)))


if __name__ == "__main__":
    main()
