"""The paper's main claim at the size of a desk: is Flux with Token Optimization at a quarter of the tokens as good as a
plain model at all of them? `reproduce.py` runs it."""

from flux_hf.scripts.experiments.headline.experiment import HeadlineOptions, reproduce_headline

__all__ = ["HeadlineOptions", "reproduce_headline"]
