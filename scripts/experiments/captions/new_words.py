"""Words that no caption of training had: a frozen text encoder trained elsewhere, asked in other words.

The clips and the Flux recipe are those of compare.py; the text encoder is one of sentence-transformers and stays as it
is. Each fact is asked for in the words of training and in new ones, among the values of that fact.

python scripts/experiments/captions/new_words.py --text_model FOLDER --work_dir runs/captions
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, set_seed

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, model_hash, provenance
from flux_hf.scripts.experiments.captions.clips import make_clips
from flux_hf.scripts.experiments.captions.compare import (
    GRID,
    SHARES,
    CaptionOptions,
    align,
    arguments,
    budgets,
    decoded,
    embed_clips,
    mean_of,
    read_facts,
)
from flux_hf.scripts.experiments.captions.words import COLOURS, MOTIONS, SHAPES, SPEEDS, TEMPLATES, Facts, combinations
from flux_hf.text.embedding import embed_texts
from flux_hf.text.pairs import load_pairs

COMMAND = "scripts/experiments/captions/new_words.py"
RESULTS = Path(__file__).parent / "new_words.json"
KNOWN = {
    "motion": {motion: ways[0] for motion, ways in MOTIONS.items()},
    "shape": {shape: shape for shape in SHAPES},
    "colour": {colour: colour for colour in COLOURS},
    "speed": {speed: ways[0] for speed, ways in SPEEDS.items()},
}
NEW = {
    "motion": {
        "moves_left": "drifts to the left",
        "moves_right": "drifts to the right",
        "moves_up": "climbs",
        "moves_down": "falls",
        "approaches": "gets nearer and larger",
        "recedes": "gets smaller in the distance",
        "turns_clockwise": "spins like the hands of a clock",
        "turns_counterclockwise": "spins anticlockwise",
    },
    "shape": {"egg": "oval", "bar": "long stick", "cross": "plus sign", "arrow": "pointer"},
    "colour": {"red": "crimson", "green": "emerald", "blue": "navy", "yellow": "golden"},
    "speed": {"slowly": "at a leisurely pace", "fast": "rapidly"},
}
"""Fact -> value -> how it is said in no caption of training; written down before any of it was tried."""


@dataclass
class NewWordsOptions(CaptionOptions):
    text_model: str = field(kw_only=True, metadata={"help": "Folder of an encoder of sentence-transformers."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(NewWordsOptions, argv, __doc__)
    torch.set_num_threads(1)
    work = Path(options.work_dir)
    folder = make_clips(work / f"clips_{options.clips}", train=options.clips)
    test, facts = load_pairs(folder, "test"), read_facts(folder, "test")
    name = f"words_{options.regime}_{options.seed}_{options.clips}_{options.steps}"
    set_seed(options.seed)
    text, words = (auto.from_pretrained(options.text_model) for auto in (AutoModel, AutoTokenizer))
    pairs = decoded(load_pairs(folder, "train"), work)
    args = arguments(options, options.regime, str(work / name))
    encoder = model_hash(text)
    model, processor, seconds = align(args, pairs, text, words, freeze_text=True)
    rows = []
    for budget, share in zip(budgets(), SHARES, strict=True):
        embeds = embed_clips(model, processor, decoded(test, work), budget, GRID)
        shares = {
            said: accuracies(model, processor, embeds, facts, phrases)
            for said, phrases in (("known", KNOWN), ("new", NEW))
        }
        rows.append({"tokens": budget, "share": share, **shares})
        print(rows[-1], flush=True)
    result = provenance(f"python {COMMAND}", argv)
    settings = {"test_files": file_list_hash(test), "text_model": encoder, "cpu_seconds": round(seconds)}
    write_json(options.output, result | settings | {"clips": len(facts), "rows": rows})


def accuracies(model, processor, embeds: np.ndarray, facts: Sequence[Facts], phrases: dict) -> dict[str, float]:
    """For each fact how often its value is the nearest; a value is the mean of the sentences with it in the words of
    `phrases`, the other three facts in those of training. `all`: R@1 of clips among the sentences of all combinations,
    every fact in the words of `phrases`."""
    found = {}
    for name, values in phrases.items():
        prompts = [
            [sentence(of, KNOWN | {name: values}) for of in combinations() if getattr(of, name) == value]
            for value in values
        ]
        classes = np.stack([mean_of(embed_texts(model, processor, texts)) for texts in prompts])
        right = [list(values).index(getattr(fact, name)) for fact in facts]
        found[name] = float(((embeds @ classes.T).argmax(1) == right).mean())
    every = embed_texts(model, processor, [sentence(of, phrases) for of in combinations()])
    right = [combinations().index(fact) for fact in facts]
    return found | {"all": float(((embeds @ every.T).argmax(1) == right).mean())}


def sentence(facts: Facts, phrases: dict) -> str:
    """The first template with these words."""
    said = {name: phrases[name][value] for name, value in facts._asdict().items()}
    return TEMPLATES[0].format(verb=said.pop("motion"), **said)


if __name__ == "__main__":
    run_command(COMMAND, main)
