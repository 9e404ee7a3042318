"""The page: a video on the left, two budgets side by side, accuracy below; and the endpoint for scripts."""

from pathlib import Path

import gradio as gr

from flux_hf.checkpoints import example_clips
from flux_hf.demo import cards
from flux_hf.demo.classifier import BudgetRange, DemoClassifier, OpenVideo
from flux_hf.demo.uploads import Uploads
from flux_hf.processing.video_source_fluxvit import VideoDecodeError

ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "model"}
"""One answer is computed at a time: the times that the page shows are those of a model that has the machine alone."""

OF_THE_PAGE = {**ONE_AT_A_TIME, "api_visibility": "private", "show_progress": "minimal"}

KEPT_SECONDS = 3600
"""Age at which an upload is deleted that no session closed."""


def build_page(classifier: DemoClassifier, uploads: Uploads) -> gr.Blocks:
    """The page of a classifier, to be served by `flux_hf.demo.serving`.

    Sessions share the model, and nothing else: what is uploaded, decoded and answered is kept by session, and is gone
    when its tab is closed.
    """
    budgets = classifier.budget_range()
    start = {"A": classifier.token_budgets[0], "B": classifier.token_budgets[-1]}
    examples = example_clips()

    def chart(first: int, second: int) -> str:
        return cards.accuracy_chart(classifier.accuracy, budgets, {"A": first, "B": second})

    def answers(video: OpenVideo, first: int, second: int) -> tuple[str, str, str, str]:
        left, right = (classifier.answer(video, budget) for budget in (first, second))
        return (
            cards.answer_card(left, classifier.processor),
            cards.answer_card(right, classifier.processor),
            cards.comparison(left, right),
            chart(first, second),
        )

    def open_video(path: str | None, first: int, second: int, request: gr.Request):
        if path is None:
            return cleared(first, second, request)
        try:
            return path, *answers(uploads.open(request.session_hash, path), first, second)
        except VideoDecodeError as error:
            uploads.close(request.session_hash)
            return None, cards.error_card(Path(path).name, error.reason or str(error)), "", "", chart(first, second)

    def cleared(first: int, second: int, request: gr.Request):
        uploads.close(request.session_hash)
        return None, cards.EMPTY, cards.EMPTY, "", chart(first, second)

    def opened(path: str | None, first: int, second: int, request: gr.Request):
        return *open_video(path, first, second, request), None

    def take_example(name: str, first: int, second: int, request: gr.Request):
        return open_video(examples[name], first, second, request)

    def move(path: str | None, first: int, second: int, request: gr.Request):
        video = uploads.get(request.session_hash)
        if video is None:
            nothing = cards.EMPTY if path is None else cards.gone_card()
            return nothing, nothing if path is None else "", "", chart(first, second)
        try:
            return answers(video, first, second)
        except VideoDecodeError as error:
            return cards.error_card(video.path.name, error.reason or str(error)), "", "", chart(first, second)

    def close(request: gr.Request) -> None:
        uploads.close(request.session_hash)

    def classify(path: str, token_budget: int | None) -> dict:
        """Labels of one video: `{"labels": [[name, score], ...], "tokens_kept", "gmacs", "model_ms", "decode_ms"}`."""
        video = OpenVideo(Path(path))
        try:
            result = classifier.answer(video, classifier.token_budgets[-1] if token_budget is None else token_budget)
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
                    sources=["upload"], label="Video", height=300, include_audio=True, loop=True, elem_id="flux-video"
                )
                example = gr.Radio(
                    [(name.replace("_", " "), name) for name in examples],
                    label="or an example",
                    elem_id="flux-examples",
                )
            with gr.Column(scale=9, min_width=320):
                with gr.Row(elem_id="flux-answers"):
                    sliders, answered = zip(
                        *(_side(name, budget, budgets) for name, budget in start.items()), strict=True
                    )
                compared = gr.HTML(elem_id="flux-compared")
        accuracy = gr.HTML(chart(*start.values()), elem_id="flux-chart")
        shown = [*answered, compared, accuracy]
        video.upload(opened, [video, *sliders], [video, *shown, example], **OF_THE_PAGE)
        video.clear(cleared, [*sliders], [video, *shown], **OF_THE_PAGE)
        example.input(take_example, [example, *sliders], [video, *shown], **OF_THE_PAGE)
        for slider in sliders:
            slider.input(move, [video, *sliders], shown, trigger_mode="always_last", **OF_THE_PAGE)
        page.unload(close)

        with gr.Row(visible=False):
            file = gr.File(label="video", file_count="single")
            tokens = gr.Number(label="token_budget", precision=0)
            gr.Button().click(classify, [file, tokens], gr.JSON(label="answer"), api_name="classify", **ONE_AT_A_TIME)
    return page


def _side(name: str, budget: int, budgets: BudgetRange) -> tuple[gr.Slider, gr.HTML]:
    with gr.Column(min_width=320, elem_classes="flux-side"):
        slider = gr.Slider(
            budgets.least,
            budgets.most,
            value=budget,
            step=budgets.step,
            label=f"Budget {name}: tokens to keep",
            elem_id=f"flux-budget-{name.lower()}",
        )
        answer = gr.HTML(cards.EMPTY, elem_id=f"flux-answer-{name.lower()}")
    return slider, answer
