"""The page: a video on the left, two budgets side by side, accuracy below; and the endpoint for scripts."""

from pathlib import Path

import gradio as gr

from flux_hf.checkpoints import example_clips
from flux_hf.demo import cards
from flux_hf.demo.classifier import BudgetRange, DemoClassifier, OpenVideo, TokenBudget
from flux_hf.demo.uploads import Uploads
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.options.budgets import BUDGET
from flux_hf.processing.video_source_fluxvit import VideoDecodeError

ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "model"}
"""One answer is computed at a time: the times that the page shows are those of a model that has the machine alone."""

OF_THE_PAGE = {**ONE_AT_A_TIME, "api_visibility": "private", "show_progress": "minimal"}

KEPT_SECONDS = 3600
"""Age at which an upload is deleted that no session closed."""


def theme() -> gr.themes.Base:
    """Fonts of the reader's system, and grey text that is dark enough to read."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.sky,
        neutral_hue=gr.themes.colors.gray,
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return base.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_title_text_weight="600",
    )


def build_page(classifier: DemoClassifier, uploads: Uploads, upload_mb: int) -> gr.Blocks:
    """The page of a classifier, to be served by `flux_hf.demo.serving`.

    Sessions share the model, and nothing else: what is uploaded, decoded and answered is kept by session, and is gone
    when its tab is closed.
    """
    budgets = classifier.budget_range()
    start = {"A": classifier.token_budgets[0], "B": classifier.token_budgets[-1]}
    examples = example_clips()

    def chart(chosen: list[TokenBudget], answered: list[int] | None = None) -> str:
        marks = dict(zip(start, answered or chosen, strict=True))
        return cards.accuracy_chart(
            classifier.accuracy, budgets, {name: tokens for name, tokens in marks.items() if tokens != AUTO}
        )

    def answers(video: OpenVideo, chosen: list[TokenBudget]) -> tuple[str, str, str, str]:
        results = [classifier.answer(video, budget) for budget in chosen]
        return (
            *(cards.answer_card(result, classifier.processor) for result in results),
            cards.comparison(*results),
            chart(chosen, [result.answered_budget for result in results]),
        )

    def opened(path: str | None, request: gr.Request, *settings):
        chosen = _chosen(settings)
        try:
            if path is not None:
                return path, *answers(uploads.open(request.session_hash, path), chosen)
            first = cards.EMPTY
        except VideoDecodeError as error:
            first = cards.error_card(Path(path).name, error.reason or str(error))
        uploads.close(request.session_hash)
        return None, first, cards.EMPTY if path is None else "", "", chart(chosen)

    def uploaded(path: str | None, request: gr.Request, *settings):
        shown, *rest = opened(path, request, *settings)
        # The player has its file. Given back, gradio would convert what browsers cannot play, and keep the copy.
        return gr.skip() if shown else None, *rest, None

    def cleared(request: gr.Request, *settings):
        return opened(None, request, *settings)

    def example_taken(name: str, request: gr.Request, *settings):
        return opened(examples[name], request, *settings)

    def moved(path: str | None, request: gr.Request, *settings):
        chosen, video = _chosen(settings), uploads.get(request.session_hash)
        if video is None:
            return *((cards.EMPTY, cards.EMPTY) if path is None else (cards.gone_card(), "")), "", chart(chosen)
        try:
            return answers(video, chosen)
        except VideoDecodeError as error:
            return cards.error_card(video.path.name, error.reason or str(error)), "", "", chart(chosen)

    def close(request: gr.Request) -> None:
        uploads.close(request.session_hash)

    def classify(path: str, token_budget: str | None) -> dict:
        """Labels of one video: `{"labels": [[name, score], ...], "tokens_kept", "gmacs", "model_ms", "decode_ms"}`."""
        video = OpenVideo(Path(path))
        try:
            result = classifier.answer(video, _asked(token_budget, classifier))
        except VideoDecodeError as error:
            raise gr.Error(f"{video.path.name}: {error.reason}", print_exception=False) from error
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            uploads.discard(path)
        return {
            "labels": [list(label) for label in result.labels],
            "tokens_kept": result.tokens_kept,
            "gmacs": result.gmacs,
            "model_ms": result.model_ms,
            "decode_ms": result.decode_ms,
        }

    with gr.Blocks(
        analytics_enabled=False, title=f"{classifier.name} · flux_hf", delete_cache=(60, KEPT_SECONDS), fill_width=True
    ) as page:
        gr.HTML(cards.header(classifier), elem_id="flux-header")
        with gr.Row(elem_id="flux-main"):
            with gr.Column(scale=4, min_width=300, elem_id="flux-source"):
                video = gr.Video(
                    sources=["upload"],
                    label=f"Video, up to {upload_mb} MB",
                    height=300,
                    include_audio=True,
                    loop=True,
                    elem_id="flux-video",
                )
                example = gr.Radio(
                    [(name.replace("_", " "), name) for name in examples],
                    label="or an example",
                    elem_id="flux-examples",
                )
            with gr.Column(scale=9, min_width=320):
                with gr.Row(elem_id="flux-answers"):
                    sliders, autos, answered = zip(
                        *(_side(name, budget, budgets, classifier.is_calibrated) for name, budget in start.items()),
                        strict=True,
                    )
                compared = gr.HTML(elem_id="flux-compared")
        accuracy = gr.HTML(chart(list(start.values())), elem_id="flux-chart")
        settings = [*sliders, *autos]
        shown = [*answered, compared, accuracy]
        video.upload(uploaded, [video, *settings], [video, *shown, example], **OF_THE_PAGE)
        video.clear(cleared, settings, [video, *shown], **OF_THE_PAGE)
        example.input(example_taken, [example, *settings], [video, *shown], **OF_THE_PAGE)
        for setting in settings:
            setting.input(moved, [video, *settings], shown, trigger_mode="always_last", **OF_THE_PAGE)
        page.unload(close)

        with gr.Row(visible=False):
            file = gr.File(label="video", file_count="single")
            tokens = gr.Textbox(label="token_budget")
            gr.Button().click(classify, [file, tokens], gr.JSON(label="answer"), api_name="classify", **ONE_AT_A_TIME)
    return page


def _side(name: str, budget: int, budgets: BudgetRange, calibrated: bool) -> tuple[gr.Slider, gr.Checkbox, gr.HTML]:
    side = name.lower()
    with gr.Column(min_width=320, elem_classes="flux-side"):
        slider = gr.Slider(
            budgets.least,
            budgets.most,
            value=budget,
            step=budgets.step,
            label=f"Budget {name}: tokens to keep",
            elem_id=f"flux-budget-{side}",
        )
        auto = gr.Checkbox(
            label="auto: as few as the model is sure with", elem_id=f"flux-auto-{side}", visible=calibrated
        )
        answer = gr.HTML(cards.EMPTY, elem_id=f"flux-answer-{side}")
    return slider, auto, answer


def _chosen(settings: tuple) -> list[TokenBudget]:
    """The budgets that two sliders, and a checkbox for each of them, mean."""
    sliders, autos = settings[: len(settings) // 2], settings[len(settings) // 2 :]
    return [AUTO if auto else tokens for tokens, auto in zip(sliders, autos, strict=True)]


def _asked(token_budget: str | None, classifier: DemoClassifier) -> TokenBudget:
    """The budget that a script asks for, default the largest trained one."""
    if not token_budget:
        return classifier.token_budgets[-1]
    try:
        return BUDGET(token_budget)
    except ValueError:
        raise ValueError(f'token_budget must be an integer of at least 1 or "auto", got {token_budget!r}') from None
