"""How a FluxViT is pre-trained: the arguments of the HF Trainer and those of Flux-UMT."""

from dataclasses import dataclass

from flux_hf.options.parsing import arguments_from_recipe
from flux_hf.options.pretraining import FluxPreTrainingOptions, PretrainOptions
from flux_hf.training.arguments import ClipTrainingArguments, check_limits


@dataclass
class FluxPreTrainingArguments(FluxPreTrainingOptions, ClipTrainingArguments):
    """`transformers.TrainingArguments` and the options of Flux-UMT.

    Defaults are those of the paper's Table 14, column "Others"; its column "SthSth V2" differs in `flip` alone. The
    learning rate belongs to its batch size of 2048 clips. `token_budgets` are the student's, 2048, 1536 and 1024 in
    that table; by default those of the model's heads.
    """

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

    @classmethod
    def from_recipe(cls, recipe: str, **overrides) -> "FluxPreTrainingArguments":
        """The training arguments of a recipe of pre-training, as [`FluxTrainingArguments.from_recipe`]."""
        return arguments_from_recipe(cls, recipe, overrides, beside=PretrainOptions)
