"""Facts put together in new ways: a dual encoder aligned on flexible grids beside one aligned on a fixed grid.

Clips show one of eight motions of one of four shapes in one of four colours at one of two speeds. Eight pairs of motion
and colour are in no training clip. Both regimes start from the default checkpoint and the same small BERT with random
weights, train on the same clips for the same number of steps, and are asked at all tokens of the fixed grid, a half, a
quarter and an eighth of them. One regime and one seed is one call; what is in the JSON file is not computed again, and
a training that was stopped goes on.

python scripts/experiments/captions/compare.py --regime flux --seed 0 --work_dir runs/captions
python scripts/experiments/captions/compare.py --regime fixed --seed 0 --work_dir runs/captions
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast, set_seed

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, default_checkpoint
from flux_hf.cli import run_command
from flux_hf.files import read_text
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.options import parse_options
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens
from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.captions.clips import FRAMES, make_clips
from flux_hf.scripts.experiments.captions.words import (
    OPPOSITES,
    Facts,
    caption,
    combinations,
    tokenizer,
)
from flux_hf.scripts.experiments.rows import finished_rows, write_rows
from flux_hf.text.arguments import FluxAligningArguments
from flux_hf.text.captioned_clips import CachedPairs, cache_pairs
from flux_hf.text.embedding import embed_texts
from flux_hf.text.pairs import load_pairs
from flux_hf.text.retrieval import retrieval_figures
from flux_hf.text.trainer import FluxAligningTrainer
from flux_hf.training.arguments import recipe_of
from flux_hf.training.checkpoint_folders import last_checkpoint

COMMAND = "scripts/experiments/captions/compare.py"
RESULTS = Path(__file__).parent / "results.json"
REGIMES = ("flux", "fixed")
PATCH, TUBELET = 8, 2
GRID = Grid(8, 48)
"""The fixed grid, and that of evaluations without Token Optimization: 144 tokens."""
LARGER = (Grid(8, 64), Grid(12, 64))
"""What Token Optimization may take in its place, at any budget: the one with the best R@1 on the validation clips."""
SHARES = (1, 2, 4, 8)
BATCH = 16
GALLERY = len(combinations())
"""The first clips of the test split: one of each combination."""


@dataclass
class CaptionOptions:
    work_dir: str = field(metadata={"help": "Folder for clips, decoded clips and trainings."})
    regime: str = field(
        default="flux",
        metadata={
            "help": "flux: grids and budgets of Flux training; fixed: all tokens of one grid.",
            "choices": REGIMES,
        },
    )
    seed: int = field(default=0, metadata={"help": "Of weights, order and captions drawn."})
    clips: int = field(default=1728, metadata={"help": "Training clips."})
    steps: int = field(default=100, metadata={"help": "Steps of training, of 48 pairs."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write and to go on from."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(CaptionOptions, argv, __doc__)
    torch.set_num_threads(1)
    work, output = Path(options.work_dir), Path(options.output)
    folder = make_clips(work / f"clips_{options.clips}", train=options.clips)
    test = load_pairs(folder, "test")
    settings = {
        "files": file_list_hash(load_pairs(folder, "train")),
        "test_files": file_list_hash(test),
        "clips": options.clips,
        "grid": list(GRID),
        "recipes": {regime: _free_of_seed(arguments(options, regime, ".")) for regime in REGIMES},
    }
    rows = finished_rows(output, settings)
    if any((row["regime"], row["seed"]) == (options.regime, options.seed) for row in rows):
        print(f"{options.regime}, seed {options.seed}: in {output} already")
        return
    run = work / f"{options.regime}_{options.seed}_{options.clips}_{options.steps}"
    args = arguments(options, options.regime, str(run))
    set_seed(options.seed)
    words = tokenizer()
    model, processor, seconds = align(args, decoded(load_pairs(folder, "train"), work), small_bert(words), words)
    found = measure(
        model,
        processor,
        (decoded(load_pairs(folder, "validation"), work), read_facts(folder, "validation")),
        (decoded(test, work), read_facts(folder, "test")),
    )
    new = [{"regime": options.regime, "seed": options.seed, "cpu_seconds": round(seconds), **row} for row in found]
    for row in new:
        print(json.dumps(row), flush=True)
    head = provenance(f"python {COMMAND}", argv)
    write_rows(output, settings, [*finished_rows(output, settings), *new], head, order)


def budgets() -> list[int]:
    """All tokens of the fixed grid, a half, a quarter and an eighth."""
    return [grid_tokens(GRID, PATCH, TUBELET) // share for share in SHARES]


def arguments(options: CaptionOptions, regime: str, folder: str) -> FluxAligningArguments:
    """Flux draws 4, 8 or 12 frames at 40 to 64 pixels, two thirds to four thirds of the fixed grid's tokens (the paper:
    2048 to 4096 around 3072), and trains a half, a quarter and an eighth of the tokens in one step, which costs as much
    as one step on all of them."""
    fixed = {"min_frames": GRID.frames, "max_frames": GRID.frames, "min_size": GRID.size, "max_size": GRID.size}
    flexible = {"min_frames": 4, "max_frames": 12, "min_size": 40, "max_size": 64}
    tokens = grid_tokens(GRID, PATCH, TUBELET)
    return FluxAligningArguments(
        output_dir=folder,
        seed=options.seed,
        max_steps=options.steps,
        per_device_train_batch_size=48,
        learning_rate=1e-3,
        weight_decay=0.02,
        warmup_steps=0.1,
        max_grad_norm=1.0,
        token_budgets=budgets()[1:] if regime == "flux" else budgets()[:1],
        frames_step=4,
        size_step=8,
        min_pool_tokens=2 * tokens // 3 if regime == "flux" else tokens,
        max_pool_tokens=4 * tokens // 3 if regime == "flux" else tokens,
        multi_scale_crop=[1.0, 0.9],
        save_strategy="steps",
        save_steps=20,
        save_total_limit=1,
        logging_steps=10,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **(flexible if regime == "flux" else fixed),
    )


def align(
    args: FluxAligningArguments, pairs: CachedPairs, text: PreTrainedModel, words, *, freeze_text: bool = False
) -> tuple[FluxViTClipModel, FluxViTClipProcessor, float]:
    """The default checkpoint and a text encoder with its tokenizer `words`, aligned: the model, its processor, and the
    CPU seconds that training took since it last began."""
    video = FluxViTForVideoClassification.from_pretrained(default_checkpoint())
    # CLIP's first temperature: 1/100 is that of towers which are aligned already.
    model = FluxViTClipModel.from_towers(
        video, text, projection_dim=128, freeze_text=freeze_text, logit_scale_init=1 / 0.07
    )
    of_video = FluxVideoProcessor.from_pretrained(
        default_checkpoint(), grids=dict.fromkeys(budgets(), tuple(GRID)), token_budget=budgets()[0]
    )
    trainer = FluxAligningTrainer(
        model=model, args=args, train_dataset=pairs, processing_class=FluxViTClipProcessor(of_video, words)
    )
    last, _ = last_checkpoint(Path(args.output_dir))
    began = time.process_time()
    trainer.train(resume_from_checkpoint=last)
    return trainer.model.eval(), trainer.processing_class, time.process_time() - began


def small_bert(words: PreTrainedTokenizerFast) -> BertModel:
    """A text encoder with random weights for the words of a tokenizer."""
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=40,
    )
    return BertModel(config, add_pooling_layer=False)


def decoded(pairs: Dataset, work: Path) -> CachedPairs:
    return cache_pairs(pairs, work / "decoded", num_frames=FRAMES, size=80)


def read_facts(folder: Path, split: str) -> list[Facts]:
    lines = read_text(folder / split / "metadata.jsonl").splitlines()
    return [Facts(*(row[name] for name in Facts._fields)) for row in map(json.loads, lines)]


def measure(
    model: FluxViTClipModel,
    processor: FluxViTClipProcessor,
    validation: tuple[CachedPairs, list[Facts]],
    test: tuple[CachedPairs, list[Facts]],
) -> Iterator[dict]:
    """Two rows for every budget, on the fixed grid and on the one that Token Optimization takes: zero-shot accuracy on
    unseen and on seen pairs of motion and colour among all 32, R@1 both ways in a gallery with a clip of each of the
    256 combinations, and how often of two captions that differ in an opposite the right one is nearer."""
    for budget, share in zip(budgets(), SHARES, strict=True):
        scores = {}
        for grid in (GRID, *LARGER):
            embeds = embed_clips(model, processor, validation[0], budget, grid)
            scores[grid] = recalls(model, processor, embeds, validation[1])["text_to_video"]
        for optimized, grid in ((False, GRID), (True, max(scores, key=scores.get))):
            embeds = embed_clips(model, processor, test[0], budget, grid)
            yield {
                "tokens": budget,
                "share": share,
                "optimized": optimized,
                "grid": list(grid),
                **recalls(model, processor, embeds[:GALLERY], test[1][:GALLERY]),
                **zero_shot(model, processor, embeds, test[1]),
                "opposites": opposites(model, processor, embeds, test[1]),
            }


def recalls(model, processor, embeds: np.ndarray, facts: Sequence[Facts]) -> dict[str, float]:
    """R@1 of clips and one caption of each, with all four facts."""
    captions = embed_texts(model, processor, [caption(fact) for fact in facts])
    figures = retrieval_figures(captions, embeds, list(range(len(facts))))
    return {direction: figures[direction]["r1"] for direction in ("text_to_video", "video_to_text")}


def zero_shot(model, processor, embeds: np.ndarray, facts: Sequence[Facts]) -> dict:
    """Accuracy among all pairs of motion and colour, on the `unseen` and on the `seen` ones; and of each of the four
    `facts`, on unseen pairs. A class is the mean of all captions with it, whatever they say of the other facts."""
    every = combinations()
    captions = embed_texts(model, processor, [caption(of) for of in every])
    unseen = np.array([fact.held_out for fact in facts])

    def hits(*names: str) -> np.ndarray:
        said = [tuple(getattr(of, name) for name in names) for of in every]
        classes = list(dict.fromkeys(said))
        means = np.stack([mean_of(captions[[one == value for one in said]]) for value in classes])
        right = [classes.index(tuple(getattr(fact, name) for name in names)) for fact in facts]
        return (embeds @ means.T).argmax(1) == right

    pairs = hits("motion", "colour")
    return {
        "unseen": float(pairs[unseen].mean()),
        "seen": float(pairs[~unseen].mean()),
        "facts": {name: float(hits(name)[unseen].mean()) for name in Facts._fields},
    }


def opposites(model, processor, embeds: np.ndarray, facts: Sequence[Facts]) -> dict[str, float]:
    own = embed_texts(model, processor, [caption(fact) for fact in facts])
    others = embed_texts(model, processor, [caption(fact.opposite()) for fact in facts])
    nearer = (embeds * own).sum(1) > (embeds * others).sum(1)
    return share_of_pairs(nearer, facts)


def share_of_pairs(right: np.ndarray, facts: Sequence[Facts]) -> dict[str, float]:
    """Of each pair of opposites the share of its clips that are `right`."""
    return {" / ".join(pair): float(right[[fact.motion in pair for fact in facts]].mean()) for pair in OPPOSITES}


@torch.inference_mode()
def embed_clips(model, processor, clips: CachedPairs, token_budget: int, grid: Grid) -> np.ndarray:
    found = []
    for start in range(0, len(clips), BATCH):
        inputs = processor.video_processor(
            list(clips.clips[start : start + BATCH]),
            num_frames=grid.frames,
            size=grid.size,
            token_budget=token_budget,
            return_tensors="pt",
        )
        found.append(model.get_video_features(**inputs).pooler_output)
    return torch.cat(found).numpy()


def mean_of(embeddings: np.ndarray) -> np.ndarray:
    """The mean of unit vectors (rows, width), at unit length."""
    mean = embeddings.mean(0)
    return mean / np.linalg.norm(mean)


def _free_of_seed(args: FluxAligningArguments) -> dict:
    return {name: value for name, value in recipe_of(args).items() if name != "seed"}


def order(row: dict) -> tuple:
    """By which rows are sorted."""
    return REGIMES.index(row["regime"]), row["seed"], row["share"], row["optimized"]


if __name__ == "__main__":
    run_command(COMMAND, main)
