"""Train a classifier on a video data set; options on the command line or in one YAML recipe."""

from transformers import TrainingArguments

from flux_hf.options import parse_options
from flux_hf.training import FinetuneOptions, finetune


def main(argv: list[str] | None = None) -> None:
    print(finetune(*parse_options((FinetuneOptions, TrainingArguments), argv, __doc__)))


if __name__ == "__main__":
    main()
