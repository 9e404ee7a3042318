"""Sentences made of class names."""

from collections.abc import Callable, Sequence

import torch

DEFAULT_TEMPLATE = "a video of {}"

PROMPT_TEMPLATES = {
    "kinetics": (
        "{}",
        "a video of {}",
        "a short clip of {}",
        "a recording of {}",
        "footage of {}",
        "a scene with {}",
        "a demonstration of {}",
        "an example of {}",
        "a video of a person {}",
        "a video of people {}",
        "someone is {}",
        "people are {}",
        "a person is {} in this video",
        "the action is {}",
        "this video shows {}",
        "what happens here is {}",
    ),
}
"""Named sets. "kinetics": for names of actions, as "playing cello". Published zero-shot figures on Kinetics
use the set of ActionCLIP (arXiv 2109.08472); this one has as many sentences, but others."""


def prompt_templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """Templates, each with one {} where the name of a class goes.

    Args:
        given: name of a set in `PROMPT_TEMPLATES`, one template, or several.

    Raises:
        ValueError: there is none, or one without {}.
    """
    templates = PROMPT_TEMPLATES.get(given, (given,)) if isinstance(given, str) else tuple(given)
    wrong = [template for template in templates if not isinstance(template, str) or template.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(
            f"a template needs one {{}} for the name of the class, as {DEFAULT_TEMPLATE!r}, or is the name of a set: "
            f"{', '.join(PROMPT_TEMPLATES)}; got {wrong[0] if wrong else templates!r}"
        )
    return templates


def embed_labels(
    embed: Callable[[list[str]], torch.Tensor], labels: Sequence[str], templates: str | Sequence[str]
) -> torch.Tensor:
    """What stands for every class: the mean of its sentences' unit vectors, made a unit vector; (labels, width).

    Args:
        embed: gives the unit vectors (sentences, width) of sentences.
        labels: names of the classes.
        templates: see `prompt_templates`.

    Raises:
        ValueError: a template has no {}.
    """
    templates = prompt_templates(templates)
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    mean = embed(sentences).unflatten(0, (len(labels), len(templates))).mean(1)
    return torch.nn.functional.normalize(mean, dim=-1)


__all__ = ["DEFAULT_TEMPLATE", "PROMPT_TEMPLATES", "embed_labels", "prompt_templates"]
