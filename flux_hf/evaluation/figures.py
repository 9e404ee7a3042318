"""Figures from predictions, in numpy."""

import numpy as np


def classification_figures(
    labels: list[int], ranked: list[list[int]], names: list[str], *, of_classes: bool = True
) -> dict:
    """Accuracies of ranked predictions.

    Args:
        labels: true class of each video.
        ranked: the best classes of each video, best first; as many as are to count for top-5.
        names: name of every class.
        of_classes: False leaves out `mean_class`, `per_class` and `confusion`.

    Returns:
        `top1`, `top5` and `mean_class` (mean over the classes that occur of their top-1; None without videos),
        `per_class` (name -> top-1, None for a class that does not occur), `confusion` (rows: true class).
    """
    top1 = [label == best[0] for label, best in zip(labels, ranked, strict=True)]
    top5 = [label in best[:5] for label, best in zip(labels, ranked, strict=True)]
    shares = {name: float(np.mean(hits)) if labels else None for name, hits in (("top1", top1), ("top5", top5))}
    if not of_classes:
        return shares
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (labels, [best[0] for best in ranked]), 1)
    counts = confusion.sum(1)
    per_class = [float(confusion[c, c] / counts[c]) if counts[c] else None for c in range(len(names))]
    known = [accuracy for accuracy in per_class if accuracy is not None]
    return {
        **shares,
        "mean_class": float(np.mean(known)) if known else None,
        "per_class": dict(zip(names, per_class, strict=True)),
        "confusion": confusion.tolist(),
    }


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share. E. B. Wilson, JASA 22 (1927)."""
    if total == 0:
        return 0.0, 1.0
    share, z = right / total, 1.96
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
