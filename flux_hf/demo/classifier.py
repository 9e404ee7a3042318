"""The checkpoint that a page shows: its slider, and answers for a video that is decoded once a grid."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.checkpoints import check_weights, checkpoint_name, checkpoint_path
from flux_hf.classification import Classification, Clip, classify_clip, read_clip
from flux_hf.costs import clip_tokens
from flux_hf.demo.accuracy import KnownAccuracy, card_accuracy
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

TokenBudget = int | str
"""Tokens to keep, or "auto"."""

LABELS = 5
"""Labels of an answer."""


@dataclass(frozen=True)
class BudgetRange:
    """Where the slider goes: budgets from `least` to `most`, every `step`."""

    least: int
    most: int
    step: int


@dataclass
class OpenVideo:
    """A video on the page.

    Attributes:
        path: the file.
        clips: decoded, by grid.
        answers: by budget.
    """

    path: Path
    clips: dict[Hashable, Clip] = field(default_factory=dict)
    answers: dict[TokenBudget, Classification] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoClassifier:
    """A classifier in eval mode with its processor.

    Attributes:
        name: what the page calls it.
        accuracy: what is known, a data set each.
    """

    name: str
    model: FluxModel
    processor: FluxVideoProcessor
    accuracy: list[KnownAccuracy] = field(default_factory=list)

    @property
    def is_calibrated(self) -> bool:
        """Whether the model can choose a budget by itself."""
        return self.model.flux_settings.adaptive_budget is not None

    @property
    def token_budgets(self) -> list[int]:
        """The budgets that the model was trained at, ascending."""
        return sorted(self.model.token_budgets)

    def grid_budget(self, token_budget: int) -> int:
        """The trained budget on whose grid a budget of the slider is answered: the smallest that is not below it, else
        the largest."""
        return next((budget for budget in self.token_budgets if budget >= token_budget), self.token_budgets[-1])

    def budget_range(self) -> BudgetRange:
        """From a quarter of the smallest trained budget to twice the largest, but no more than the largest grid has."""
        least, most = self.token_budgets[0], self.token_budgets[-1]
        common = math.gcd(*self.token_budgets)
        finest = max(1, least // 8)
        step = max(divisor for divisor in range(1, finest + 1) if common % divisor == 0)
        tokens = clip_tokens(self.model, self.processor.choose_grid(most))
        return BudgetRange(max(1, least // 4 // step) * step, max(most, min(2 * most, tokens) // step * step), step)

    def answer(self, video: OpenVideo, token_budget: TokenBudget) -> Classification:
        """What the model says at a budget; what is known already is neither decoded nor computed again. Raises
        `VideoDecodeError`."""
        if token_budget not in video.answers:
            on_grid = token_budget if token_budget == AUTO else self.grid_budget(token_budget)
            key = on_grid if self.processor.fit_source else self.processor.choose_grid(on_grid)
            if key not in video.clips:
                video.clips[key] = read_clip(str(video.path), self.processor, on_grid)
            video.answers[token_budget] = classify_clip(video.clips[key], self.model, token_budget, LABELS)
        return video.answers[token_budget]


def load_demo_classifier(checkpoint: str, **processor_settings) -> DemoClassifier:
    """Load what a page shows.

    Args:
        checkpoint: folder, Hub id, or `default`: the model in the package.
        processor_settings: options of the processor, which win over saved ones.

    Raises:
        ValueError: it is no video classifier, or its weights are damaged.
    """
    path = checkpoint_path(checkpoint)
    model = load_video_classifier(path).eval()
    check_weights(model, path)
    processor = load_video_processor(path, model, **processor_settings)
    name = Path(checkpoint_name(checkpoint)).name
    return DemoClassifier(name, model, processor, card_accuracy(path))
