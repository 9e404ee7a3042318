"""What the page shows, as HTML: answers, errors, the comparison of two answers, accuracy against budget.

Colours are variables of gradio's theme, so that light and dark both fit. Pictures are in the HTML itself: nothing that
a session sees has an address of its own.
"""

import base64
import io
import math
from html import escape

import numpy as np
from PIL import Image

from flux_hf.classification import Classification
from flux_hf.demo.accuracy import KnownAccuracy
from flux_hf.demo.classifier import BudgetRange, DemoClassifier
from flux_hf.drawing import DIMMED, kept_pixels, seen_frames
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.tables import percent, printable

MOST_FRAMES_SHOWN = 16
SMALLEST_FRAME = 192
"""Pixels; smaller ones are enlarged, so that the edges of tokens stay sharp."""

EMPTY = '<div class="flux-card flux-empty"><p>Drop a video, or take an example.</p></div>'


def header(classifier: DemoClassifier) -> str:
    """Name of the checkpoint, and what the page is about."""
    trained = ", ".join(map(str, classifier.token_budgets))
    return (
        f"<h1>{_shown(classifier.name)}</h1><p>A video model whose cost you choose: it computes only with the tokens "
        f"that change most. Trained at {trained} tokens.</p>"
    )


def answer_card(result: Classification, processor: FluxVideoProcessor) -> str:
    """Labels with scores, costs, and the frames with the dropped tokens faded."""
    rows = "".join(_label(place, name, score) for place, (name, score) in enumerate(result.labels))
    share = result.tokens_kept / result.grid_tokens
    facts = [
        ("tokens kept", f"{result.tokens_kept}", f"of {result.grid_tokens}"),
        ("arithmetic", _gmacs(result.gmacs), "GMACs"),
        ("model", _milliseconds(result.model_ms), "ms"),
        ("decoding, once", _milliseconds(result.decode_ms), "ms"),
    ]
    numbers = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b> <small>{unit}</small></dd></div>" for name, value, unit in facts
    )
    auto = f"Sure enough with {result.answered_budget} tokens. " if result.token_budget == AUTO else ""
    return (
        f'<div class="flux-card" data-budget="{result.token_budget}"><ol class="flux-labels">{rows}</ol>'
        f'<dl class="flux-facts">{numbers}</dl>{_frames(result, processor)}'
        f'<p class="flux-note">{auto}{_grid(result)}: the model computed with the {100 * share:.0f} % that is not '
        "faded.</p></div>"
    )


def error_card(name: str, reason: str) -> str:
    """Why a file could not be read."""
    return (
        '<div class="flux-card flux-error" role="alert"><h3>This file cannot be read</h3>'
        f"<p><b>{_shown(name)}</b></p><p>{escape(printable(reason, None))}</p>"
        "<p>Drop another one: everything else goes on.</p></div>"
    )


def gone_card() -> str:
    """The session's video was closed."""
    return (
        '<div class="flux-card flux-error" role="alert"><h3>The video is no longer here</h3>'
        "<p>It was deleted when the connection broke or after an hour. Drop it again.</p></div>"
    )


def comparison(first: Classification, second: Classification) -> str:
    """One sentence on two answers."""
    less, more = sorted((first, second), key=lambda result: result.tokens_kept)
    if less.tokens_kept == more.tokens_kept:
        text = f"Both budgets keep the same {less.tokens_kept} tokens."
    else:
        (small, _), (large, _) = less.labels[0], more.labels[0]
        same = "The same answer" if small == large else f"Another answer ({_shown(small)}, not {_shown(large)})"
        text = f"{same} for <b>{100 * less.gmacs / more.gmacs:.0f} %</b> of the multiply-accumulates."
    return f'<p class="flux-comparison">{text}</p>'


def accuracy_chart(known: list[KnownAccuracy], budgets: BudgetRange, chosen: dict[str, int]) -> str:
    """Top-1 accuracy against the budget, a line a data set, with the chosen budgets marked; empty where none is known.

    Args:
        chosen: name of a budget on the page -> tokens.
    """
    known = [each for each in known if each.top1]
    if not known:
        return ""
    measured = [tokens for each in known for tokens in each.top1]
    chart = _Chart(
        min(budgets.least, *measured), max(budgets.most, *measured), min(min(each.top1.values()) for each in known)
    )
    legend = "".join(
        f'<li class="flux-line-{place % 4}"><i></i>{_shown(each.dataset)}</li>' for place, each in enumerate(known)
    )
    lines = "".join(chart.line(each.top1, place) for place, each in enumerate(known))
    return (
        '<figure class="flux-card flux-accuracy"><figcaption><h3>Accuracy against budget</h3>'
        f"<ul>{legend}</ul></figcaption>{chart.svg(lines + chart.marks(chosen), set(measured))}"
        '<p class="flux-note">Top-1 in %, as the card of the checkpoint or its evaluation says; tokens kept, on a '
        "logarithmic axis.</p></figure>"
    )


class _Chart:
    """Coordinates of a chart of `WIDTH` x `HEIGHT`: tokens on a logarithmic axis, accuracy up to 100 %."""

    WIDTH, HEIGHT = 480, 250
    LEFT, RIGHT, TOP, BOTTOM = 36, 466, 26, 218

    def __init__(self, least: int, most: int, worst: float):
        self._ends = (least, most)
        self._least, self._most = math.log(least), math.log(most)
        room = max(1 - worst, 0.02)
        self._step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if room / step <= 5 or step == 0.2)
        self._floor = max(0.0, 1 - self._step * math.ceil(room / self._step + 0.25))

    def x(self, tokens: int) -> float:
        share = (math.log(tokens) - self._least) / max(self._most - self._least, 1e-9)
        return self.LEFT + share * (self.RIGHT - self.LEFT)

    def y(self, top1: float) -> float:
        return self.BOTTOM - (top1 - self._floor) / (1 - self._floor) * (self.BOTTOM - self.TOP)

    def line(self, top1: dict[int, float], place: int) -> str:
        points = [(self.x(tokens), self.y(share)) for tokens, share in top1.items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{tokens} tokens: {percent(share)} %</title></circle>'
            for (x, y), (tokens, share) in zip(points, top1.items(), strict=True)
        )
        return f'<g class="flux-line-{place % 4}"><polyline points="{path}"/>{dots}</g>'

    def marks(self, chosen: dict[str, int]) -> str:
        places: dict[float, list[str]] = {}
        for name, tokens in chosen.items():
            x = self.x(min(max(tokens, math.exp(self._least)), math.exp(self._most)))
            places.setdefault(round(x, 1), []).append(name)
        return "".join(
            f'<g class="flux-mark"><line x1="{x}" x2="{x}" y1="{self.TOP - 6}" y2="{self.BOTTOM}"/>'
            f'<text x="{x}" y="{self.TOP - 12}">{escape("/".join(names))}</text></g>'
            for x, names in places.items()
        )

    def svg(self, drawn: str, measured: set[int]) -> str:
        shares = [self._floor + self._step * i for i in range(round((1 - self._floor) / self._step) + 1)]
        across = "".join(
            f'<line x1="{self.LEFT}" x2="{self.RIGHT}" y1="{self.y(share):.1f}" y2="{self.y(share):.1f}"/>'
            f'<text class="flux-y" x="{self.LEFT - 8}" y="{self.y(share) + 5:.1f}">{100 * share:.0f}</text>'
            for share in shares
        )
        below = "".join(
            f'<text class="flux-x" x="{self.x(tokens):.1f}" y="{self.BOTTOM + 22}">{tokens}</text>'
            for tokens in sorted({*self._ends, *measured})
        )
        return (
            f'<svg viewBox="0 0 {self.WIDTH} {self.HEIGHT}" role="img" aria-label="Accuracy against budget">'
            f'<g class="flux-axes">{across}{below}</g>{drawn}</svg>'
        )


def _label(place: int, name: str, score: float) -> str:
    first = ' class="flux-first"' if place == 0 else ""
    return (
        f'<li{first}><span class="flux-name">{_shown(name)}</span><span class="flux-score">{100 * score:.1f} %</span>'
        f'<span class="flux-bar"><i style="width:{100 * score:.2f}%"></i></span></li>'
    )


def _grid(result: Classification) -> str:
    height, width = result.grid.pixels()
    return f"{result.grid.frames} frames of {height} × {width} pixels"


def _frames(result: Classification, processor: FluxVideoProcessor) -> str:
    frames, kept = seen_frames(result, processor), kept_pixels(result)
    shown = np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES_SHOWN)).round().astype(int)
    pictures = "".join(
        f'<img src="{_picture(frames[index], kept[index])}" '
        f'alt="frame {index + 1} of {len(frames)}, {100 * kept[index].mean():.0f} % kept">'
        for index in shown
    )
    return f'<div class="flux-frames">{pictures}</div>'


def _picture(frame: np.ndarray, kept: np.ndarray) -> str:
    """A data address: what was dropped is transparent, so that it fades into whatever the page's background is."""
    opaque = np.where(kept, 255, round(255 * DIMMED)).astype(np.uint8)
    picture = Image.fromarray(np.dstack([frame, opaque]))
    larger = math.ceil(SMALLEST_FRAME / min(picture.size))
    if larger > 1:
        picture = picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80, alpha_quality=90, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _gmacs(gmacs: float) -> str:
    return f"{gmacs:.2f}" if gmacs < 10 else f"{gmacs:.1f}"


def _milliseconds(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _shown(name: str) -> str:
    return escape(printable(name))
