"""How a FluxViT is pre-trained: the arguments of the HF Trainer and those of Flux-UMT."""

from dataclasses import dataclass, field

from flux_hf.training.arguments import ClipTrainingArguments, check_limits


@dataclass
class FluxPreTrainingArguments(ClipTrainingArguments):
    """`transformers.TrainingArguments` and the options of Flux-UMT.

    Defaults are those of the paper's Table 14, column "Others"; its column "SthSth V2" differs in `flip` alone. The
    learning rate belongs to its batch size of 2048 clips. `token_budgets` are the student's, 2048, 1536 and 1024 in
    that table; by default those of the model's heads.
    """

    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of Adam."})
    num_train_epochs: float = field(default=100, metadata={"help": "Epochs; an epoch is as many clips as videos."})
    warmup_steps: float = field(default=0.2, metadata={"help": "Steps of linear warm-up; below 1 a share of all."})
    teacher_tokens: int = field(
        default=2048, metadata={"help": "Tokens that the selector leaves of a grid; the students' are among them."}
    )
    multi_scale_crop: list[float] | None = field(
        default_factory=lambda: [1.0, 0.875, 0.75, 0.66],
        metadata={
            "help": "Crop with sides drawn from these shares of the short side, at one of 13 places (MultiScaleCrop)."
        },
    )
    rand_augment_ops: int = field(default=0, metadata={"help": "Operations of RandAugment, each done with p = 0.5."})
    teacher_bf16: bool = field(default=False, metadata={"help": "Hold the teacher's weights in bf16."})
    teacher_cache: str | None = field(
        default=None,
        metadata={"help": "Folder that keeps the teacher's outputs for views that come again; needs view_epochs."},
    )
    view_epochs: int | None = field(
        default=None,
        metadata={"help": "Views (not the tokens drawn of them) repeat after this many epochs. Default: never."},
    )

    def __post_init__(self):
        super().__post_init__()
        check_limits(self, {"teacher_tokens": (1, None), "view_epochs": (1, None)})
        if self.token_budgets is not None and max(self.token_budgets) > self.teacher_tokens:
            raise ValueError(
                f"token_budgets must be at most teacher_tokens ({self.teacher_tokens}), of which students see a part, "
                f"got {self.token_budgets}"
            )
        if self.teacher_cache is not None and self.view_epochs is None:
            raise ValueError("teacher_cache needs view_epochs: views that never come again cannot be looked up")
        if self.eval_strategy != "no":
            raise ValueError("pre-training has no evaluation: eval_strategy must be no")
