"""What a classifier says too often it says less often: one number a label and one scale, fitted for each budget."""

import torch
from datasets import Dataset

from flux_hf.data import load_video_dataset
from flux_hf.evaluation.accuracy import model_labels
from flux_hf.evaluation.scoring import Arm, decoded_batches, mean_over_views
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views

BATCH = 32


def calibrate(model: FluxModel, processor: FluxVideoProcessor, data_sets: list[str]) -> None:
    """Change the heads of a classifier by what [`fit`] finds on labelled data sets, FOLDER=SPLIT.

    Raises:
        ValueError: naming the option and the value that is not FOLDER=SPLIT or has other labels, or the labels of which
            no data set has a clip.
    """
    found, labels = {budget: [] for budget in model.token_budgets}, []
    for value in data_sets:
        folder, equals, split = value.rpartition("=")
        if not (folder and equals and split):
            raise ValueError(f"--calibrate_on must be data sets as FOLDER=SPLIT, got {value}")
        dataset = load_video_dataset(folder, split)
        of_the_model = model_labels(dataset, model)
        labels += [of_the_model[label] for label in dataset["label"]]
        for budget, logits in logits_of(dataset, model.eval(), processor).items():
            found[budget].append(logits)
    if missing := [name for name, number in model.config.label2id.items() if number not in labels]:
        raise ValueError(f"--calibrate_on: the data sets have no clip of {', '.join(missing)}")
    for budget, classifier in zip(model.token_budgets, model.classifier.heads, strict=True):
        logits, wanted = torch.cat(found[budget]), torch.tensor(labels)
        scale, shift = fit(logits, wanted)
        with torch.no_grad():
            classifier.weight *= scale
            classifier.bias.mul_(scale).add_(shift)
        before, after = (int((each.argmax(1) == wanted).sum()) for each in (logits, scale * logits + shift))
        print(f"{budget} tokens: {before} of {len(labels)} clips right, {after} with logits x {scale:.2f} and", end=" ")
        print(*(f"{name} {by:+.2f}" for name, by in zip(model.label_names, shift.tolist(), strict=True)), sep=", ")


@torch.inference_mode()
def logits_of(dataset: Dataset, model: FluxModel, processor: FluxVideoProcessor) -> dict[int, torch.Tensor]:
    """Budget -> logits (clips, labels) of all clips of a data set, one view of each.

    Raises:
        ValueError: a clip cannot be read; names it.
    """
    arms, found = [Arm(budget) for budget in model.token_budgets], {}
    for items in decoded_batches(dataset, list(range(len(dataset))), processor, arms, Views(1, 1), BATCH, 0):
        for item in items:
            if "reason" in item:
                raise ValueError(f"{dataset[item['row']]['video']}: {item['reason']}")
        for (_, budget, *_), logits in mean_over_views(items, arms, model, BATCH, torch.nn.Identity()).items():
            found.setdefault(budget, []).append(logits)
    return {budget: torch.stack(logits) for budget, logits in found.items()}


def fit(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """`scale` and `shift` (labels,) with which `scale * logits + shift` are the most likely logits of the clips, if
    every label were as frequent ("bias-corrected temperature scaling", Alexandari, Kundaje and Shrikumar, 2020).

    Args:
        logits: (clips, labels).
        labels: int64 (clips,), every label at least once.
    """
    logits, count = logits.double(), torch.bincount(labels, minlength=logits.shape[1])
    weights = 1 / count[labels] / len(count)
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        wrong = torch.nn.functional.cross_entropy(scale * logits + shift, labels, reduction="none")
        mean = (weights * wrong).sum()
        mean.backward()
        return mean

    optimizer.step(loss)
    return scale.item(), (shift - shift.mean()).detach().float()
