"""The picture of a classification: sampled frames, dropped tokens dimmed, scores for each token budget."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flux_hf.classification import Classification
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.tables import printable

SUFFIXES = (".png", ".mp4")

BACKGROUND = (250, 250, 248)
INK = (32, 33, 36)
PALE = (118, 121, 128)
TRACK = (232, 232, 228)
BAR = (27, 108, 168)
OTHER_BAR = (158, 184, 204)
DIMMED = 0.16
"""Share of a dropped token's picture that is left, the rest is the background."""

SECONDS_PER_FRAME = Fraction(1, 4)
REPEATS = 3
MARGIN, GAP, BAR_HEIGHT = 28, 6, 22


def draw_classification(results: list[Classification], processor: FluxVideoProcessor, title: str, path: str | Path):
    """Draw the results for one video, a block for each budget.

    Args:
        results: of `classify`, in the order they are drawn.
        processor: the one that made the pixels; its mean and deviation are undone.
        title: shown above everything.
        path: `.png`: all sampled frames side by side. `.mp4`: they play, one column for each budget.

    Raises:
        ValueError: the file name has another ending, or there is nothing to draw.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the picture's name must end in one of {', '.join(SUFFIXES)}, got {path}")
    if not results:
        raise ValueError("there are no results to draw")
    films = [dimmed_frames(result, processor) for result in results]
    if path.suffix.lower() == ".png":
        _still(results, films, title).save(path)
    else:
        _film(results, films, title, path)


def seen_frames(result: Classification, processor: FluxVideoProcessor) -> np.ndarray:
    """uint8 (frames, height, width, 3): what the model saw."""
    return _colours(result, processor).round().astype(np.uint8)


def kept_pixels(result: Classification) -> np.ndarray:
    """bool (frames, height, width): True where a token was kept."""
    height, width = result.grid.pixels()
    if result.keep_mask is None:
        return np.ones((result.grid.frames, height, width), bool)
    length, patch = result.patch_shape
    kept = result.keep_mask.numpy().reshape(-1, *result.grid.patch_grid(patch))
    return kept.repeat(length, 0).repeat(patch, 1).repeat(patch, 2)


def dimmed_frames(result: Classification, processor: FluxVideoProcessor) -> np.ndarray:
    """uint8 (frames, height, width, 3): what the model saw, dropped tokens faded into the background."""
    frames = _colours(result, processor)
    faded = DIMMED * frames + (1 - DIMMED) * np.array(BACKGROUND)
    return np.where(kept_pixels(result)[..., None], frames, faded).round().astype(np.uint8)


def _colours(result: Classification, processor: FluxVideoProcessor) -> np.ndarray:
    """From 0 to 255 (frames, height, width, 3): the pixels with mean and deviation undone."""
    mean, deviation = np.array(processor.image_mean), np.array(processor.image_std)
    return np.clip(result.pixels.permute(0, 2, 3, 1).float().numpy() * deviation + mean, 0, 1) * 255


def _still(results: list[Classification], films: list[np.ndarray], title: str) -> Image.Image:
    columns = min(8, max(len(film) for film in films))
    side = max(64, min(160, 1240 // columns))
    width = max(2 * MARGIN + columns * (side + GAP) - GAP, 760)
    blocks = [_block(result, _strip(film, columns, side), width) for result, film in zip(results, films, strict=True)]
    canvas = Image.new("RGB", (width, 66 + sum(block.height for block in blocks)), BACKGROUND)
    _title(canvas, title, 22)
    top = 66
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return canvas


def _strip(film: np.ndarray, columns: int, side: int) -> Image.Image:
    rows = -(-len(film) // columns)
    height = round(side * film.shape[1] / film.shape[2])
    strip = Image.new("RGB", (columns * (side + GAP) - GAP, rows * (height + GAP) - GAP), BACKGROUND)
    for number, frame in enumerate(film):
        picture = Image.fromarray(frame).resize((side, height), Image.Resampling.LANCZOS)
        strip.paste(picture, (number % columns * (side + GAP), number // columns * (height + GAP)))
    return strip


def _block(result: Classification, strip: Image.Image, width: int) -> Image.Image:
    bars = len(result.labels) * (BAR_HEIGHT + GAP)
    block = Image.new("RGB", (width, 34 + strip.height + 14 + bars + 26), BACKGROUND)
    draw = ImageDraw.Draw(block)
    head = f"{result.tokens_kept} tokens"
    draw.text((MARGIN, 2), head, INK, _font(19))
    left = MARGIN + draw.textlength(head, _font(19)) + 14
    draw.text((left, 6), _facts(result), PALE, _font(15))
    block.paste(strip, (MARGIN, 34))
    _bars(draw, result, MARGIN, 34 + strip.height + 14, min(width - 2 * MARGIN, 760))
    return block


def _facts(result: Classification) -> str:
    height, width = result.grid.pixels()
    share = 100 * result.tokens_kept / result.grid_tokens
    return (
        f"{share:.0f} % of the {result.grid_tokens} in {result.grid.frames} frames of {height} x {width}"
        f"   ·   {result.gmacs:.2f} GMACs   ·   {result.model_ms:.0f} ms"
    )


def _bars(draw: ImageDraw.ImageDraw, result: Classification, left: int, top: int, width: int):
    """One line for each label: name, bar, percent. A name too long for its column is cut short with dots."""
    name_width = min(250, width // 2)
    bar_left, bar_right = left + name_width, left + width - 54
    for place, (name, score) in enumerate(result.labels):
        y = top + place * (BAR_HEIGHT + GAP)
        ink = INK if place == 0 else PALE
        draw.text((left, y + 2), _shortened(draw, printable(name), name_width - 10), ink, _font(16))
        draw.rounded_rectangle((bar_left, y + 3, bar_right, y + BAR_HEIGHT - 4), 4, TRACK)
        end = bar_left + round(score * (bar_right - bar_left))
        if end - bar_left >= 2:
            draw.rounded_rectangle(
                (bar_left, y + 3, end, y + BAR_HEIGHT - 4),
                min(4, (end - bar_left) // 2),
                BAR if place == 0 else OTHER_BAR,
            )
        draw.text((bar_right + 10, y + 2), f"{100 * score:.0f} %", ink, _font(16))


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if draw.textlength(text, _font(16)) <= width:
        return text
    while text and draw.textlength(text + "…", _font(16)) > width:
        text = text[:-1]
    return text + "…"


def _title(canvas: Image.Image, title: str, top: int):
    draw = ImageDraw.Draw(canvas)
    font = _font(24)
    while title and draw.textlength(title, font) > canvas.width - 2 * MARGIN:
        title = "…" + title.lstrip("…")[1:]
    draw.text((MARGIN, top), title, INK, font)


def _film(results: list[Classification], films: list[np.ndarray], title: str, path: Path):
    """One column for each budget. All columns play for the same time; one with fewer frames shows them for longer."""
    side, column = 360, 360 + 2 * MARGIN
    steps = max(len(film) for film in films)
    panels = [_column(result, column, side, film) for result, film in zip(results, films, strict=True)]
    height = 66 + max(panel.height for panel in panels)
    canvas = Image.new("RGB", (column * len(results), height + height % 2), BACKGROUND)
    _title(canvas, title, 22)
    for place, panel in enumerate(panels):
        canvas.paste(panel, (place * column, 66))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1 / SECONDS_PER_FRAME, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = canvas.width, canvas.height, "yuv420p"
        for step in [*range(steps)] * REPEATS:
            for place, film in enumerate(films):
                frame = film[step * len(film) // steps]
                height = round(side * frame.shape[0] / frame.shape[1])
                picture = Image.fromarray(frame).resize((side, height), Image.Resampling.LANCZOS)
                canvas.paste(picture, (place * column + MARGIN, 66 + 58))
            container.mux(stream.encode(av.VideoFrame.from_image(canvas)))
        container.mux(stream.encode(None))


def _column(result: Classification, width: int, side: int, film: np.ndarray) -> Image.Image:
    height = round(side * film.shape[1] / film.shape[2])
    bars = len(result.labels) * (BAR_HEIGHT + GAP)
    panel = Image.new("RGB", (width, 58 + height + 16 + bars + 20), BACKGROUND)
    draw = ImageDraw.Draw(panel)
    draw.text((MARGIN, 0), f"{result.tokens_kept} of {result.grid_tokens} tokens", INK, _font(19))
    facts = f"{result.grid.frames} frames  ·  {result.gmacs:.2f} GMACs  ·  {result.model_ms:.0f} ms"
    draw.text((MARGIN, 28), facts, PALE, _font(15))
    _bars(draw, result, MARGIN, 58 + height + 16, side)
    return panel


def _font(size: int):
    return ImageFont.load_default(size=size)
