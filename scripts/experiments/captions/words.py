"""What is said of a clip: four facts, the sentences for them, and a tokenizer that knows all of their words."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SHAPES = ("egg", "bar", "cross", "arrow")
COLOURS = ("red", "green", "blue", "yellow")
MOTIONS = {
    "moves_left": ("moves left", "moving to the left", "goes leftwards"),
    "moves_right": ("moves right", "moving to the right", "goes rightwards"),
    "moves_up": ("moves up", "moving upwards", "rises"),
    "moves_down": ("moves down", "moving downwards", "sinks"),
    "approaches": ("comes closer", "coming towards the camera", "grows"),
    "recedes": ("goes away", "moving away from the camera", "shrinks"),
    "turns_clockwise": ("turns clockwise", "turning clockwise", "rotates clockwise"),
    "turns_counterclockwise": ("turns counterclockwise", "turning counterclockwise", "rotates counterclockwise"),
}
"""Label -> three ways to say it: of a verb, a participle, another verb."""
SPEEDS = {"slowly": ("slowly", "gently"), "fast": ("fast", "quickly")}
OPPOSITES = (
    ("moves_left", "moves_right"),
    ("moves_up", "moves_down"),
    ("approaches", "recedes"),
    ("turns_clockwise", "turns_counterclockwise"),
)
HELD_OUT = tuple((motion, COLOURS[colour]) for motion, colour in zip(MOTIONS, (0, 1, 2, 3, 1, 2, 3, 0), strict=True))
"""Pairs of motion and colour that no training clip shows: every motion and every colour is in one, and in others that
are shown."""
TEMPLATES = (
    "a {colour} {shape} {verb} {speed}",
    "the {colour} {shape} {other} {speed}",
    "a {colour} {shape} {participle} {speed}",
    "{speed} a {colour} {shape} {verb}",
    "a video of a {colour} {shape} {participle} {speed}",
    "a {shape} that is {colour} {other} {speed}",
)
PADDING = "[PAD]"


class Facts(NamedTuple):
    """What a clip shows; every value is independent of the others."""

    motion: str
    shape: str
    colour: str
    speed: str

    @property
    def held_out(self) -> bool:
        return (self.motion, self.colour) in HELD_OUT

    def opposite(self) -> "Facts":
        """The same of the opposite motion."""
        pair = next(pair for pair in OPPOSITES if self.motion in pair)
        return self._replace(motion=pair[1 - pair.index(self.motion)])


def combinations() -> list[Facts]:
    """All there are, 256."""
    return [Facts(*values) for values in itertools.product(MOTIONS, SHAPES, COLOURS, SPEEDS)]


def caption(facts: Facts, template: str = TEMPLATES[0], synonym: int = 0) -> str:
    """A sentence with all four facts."""
    verb, participle, other = MOTIONS[facts.motion]
    speeds = SPEEDS[facts.speed]
    return template.format(
        colour=facts.colour, shape=facts.shape, verb=verb, participle=participle, other=other,
        speed=speeds[synonym % len(speeds)],
    )  # fmt: skip


def captions(facts: Facts, generator: np.random.Generator, count: int = 3) -> list[str]:
    """`count` sentences of different templates."""
    chosen = generator.permutation(len(TEMPLATES))[:count]
    return [caption(facts, TEMPLATES[number], int(generator.integers(2))) for number in chosen]


def tokenizer() -> PreTrainedTokenizerFast:
    """[`tokenizer_of`] all captions."""
    return tokenizer_of(
        caption(facts, template, synonym) for facts in combinations() for template in TEMPLATES for synonym in range(2)
    )


def tokenizer_of(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """One number for every word of the sentences; `[CLS]` comes first."""
    words = {word for sentence in sentences for word in sentence.split()}
    vocabulary = {word: number for number, word in enumerate([PADDING, "[UNK]", "[CLS]", *sorted(words)])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=PADDING, unk_token="[UNK]", cls_token="[CLS]", model_max_length=32
    )
