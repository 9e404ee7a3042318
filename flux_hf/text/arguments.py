"""How a FluxViT is aligned with text: the arguments of the HF Trainer and those of the paper's Flux-CLIP."""

from dataclasses import dataclass

from flux_hf.options.aligning import AlignOptions, FluxAligningOptions
from flux_hf.options.parsing import arguments_from_recipe
from flux_hf.training.arguments import ClipTrainingArguments, check_limits, check_several_budgets


@dataclass
class FluxAligningArguments(FluxAligningOptions, ClipTrainingArguments):
    """`transformers.TrainingArguments` and the options of aligning.

    Defaults are those of the paper's Table 16, column 25M; warm-up 0.6 of 3 epochs. The learning rate belongs to its
    batch size of 4096 pairs. That table has no flip: captions name directions.
    """

    def __post_init__(self):
        super().__post_init__()
        check_limits(self, {"pairs_per_chunk": (1, None)})
        check_several_budgets(self)

    @classmethod
    def from_recipe(cls, recipe: str, **overrides) -> "FluxAligningArguments":
        """The training arguments of a recipe of aligning, as [`FluxTrainingArguments.from_recipe`]."""
        return arguments_from_recipe(cls, recipe, overrides, beside=AlignOptions)
