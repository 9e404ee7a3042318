"""The stock `pipeline("video-classification")` of Transformers on our checkpoints and on real files."""

import functools
import logging
import shutil
from http.server import SimpleHTTPRequestHandler

import pytest
import torch
from transformers import pipeline
from transformers.utils import logging as transformers_logging

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, VideoDecodeError
from tests.local_server import serving

DEFAULT_BUDGET = 48


@pytest.fixture
def classify(tiny_checkpoint):
    return pipeline("video-classification", model=tiny_checkpoint)


@pytest.fixture
def kept(request):
    """Attach to a pipeline; collects how many tokens (cls aside) each pass through the encoder had."""

    def attach(classify) -> list[int]:
        counts = []
        model = getattr(classify.model, "_orig_mod", classify.model)
        hook = model.fluxvit.encoder.register_forward_pre_hook(
            lambda module, arguments: counts.append(arguments[0].shape[1] - 1)
        )
        request.addfinalizer(hook.remove)
        return counts

    return attach


@pytest.fixture
def expected_scores(tiny_checkpoint):
    """Label -> score of a file, computed without the pipeline."""

    def scores(path, **processor_options) -> dict[str, float]:
        processor = FluxVideoProcessor.from_pretrained(tiny_checkpoint, **processor_options)
        model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
        with torch.no_grad():
            probabilities = model(**processor(path, return_tensors="pt")).logits[0].softmax(-1)
        return {model.config.id2label[index]: score for index, score in enumerate(probabilities.tolist())}

    return scores


@pytest.fixture
def serve(tmp_path):
    """Serves `tmp_path` over HTTP with the standard library's server, which ignores Range."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Keep the test's output clean."""

    with serving(functools.partial(Handler, directory=tmp_path)) as address:
        yield address


def as_dict(answer: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_path(classify, kept, expected_scores, make_video, name):
    counts = kept(classify)
    clip = make_video(name)
    answer = classify(str(clip))
    assert as_dict(answer) == pytest.approx(expected_scores(clip), abs=1e-6)
    assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)
    assert counts == [DEFAULT_BUDGET]


def test_no_complaint_about_the_model(tiny_checkpoint, caplog, capfd):
    logger = transformers_logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        pipeline("video-classification", model=tiny_checkpoint)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "not supported" not in "".join(capfd.readouterr())


def test_a_url(classify, expected_scores, make_video, serve):
    """The index of this file stands behind the pictures, and the server answers every request with the whole file."""
    clip = make_video("large.mp4", frames=40, width=320, height=240)
    assert clip.stat().st_size > 300_000
    assert as_dict(classify(f"{serve}/large.mp4")) == pytest.approx(expected_scores(clip), abs=1e-6)


def test_a_url_that_is_not_there(classify, serve):
    with pytest.raises(VideoDecodeError, match="404"):
        classify(f"{serve}/absent.mp4")


def test_a_list_of_different_videos(classify, kept, expected_scores, make_video):
    counts = kept(classify)
    clips = [
        make_video("wide.mp4", frames=30, width=160, height=64),
        make_video("tall.mkv", frames=9, width=64, height=144, fps=25),
        make_video("short.avi", frames=2, width=80, height=80),
    ]
    answers = classify([str(clip) for clip in clips])
    assert [as_dict(answer) for answer in answers] == [pytest.approx(expected_scores(clip), abs=1e-6) for clip in clips]
    assert counts == [DEFAULT_BUDGET] * 3


@pytest.mark.parametrize(("top_k", "length"), [(1, 1), (3, 3), (100, 4)])
def test_top_k(classify, make_video, top_k, length):
    assert len(classify(str(make_video("clip.mp4")), top_k=top_k)) == length


def test_number_of_frames_per_call(classify, make_video):
    shapes = []
    classify.model.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(options["pixel_values_videos"].shape), with_kwargs=True
    )
    classify(str(make_video("clip.mp4")), num_frames=4)
    assert shapes[0][1] == 4


def test_bfloat16(tiny_checkpoint, kept, expected_scores, make_video):
    classify = pipeline("video-classification", model=tiny_checkpoint, dtype=torch.bfloat16)
    counts = kept(classify)
    clip = make_video("clip.mp4")
    assert as_dict(classify(str(clip))) == pytest.approx(expected_scores(clip), abs=0.02)
    assert classify.model.dtype == torch.bfloat16
    assert counts == [DEFAULT_BUDGET]


def test_budget_through_model_kwargs(tiny_checkpoint, kept, expected_scores, make_video):
    classify = pipeline("video-classification", model=tiny_checkpoint, model_kwargs={"token_budget": 20})
    counts = kept(classify)
    clip = make_video("clip.mp4")
    answer = classify(str(clip))
    assert counts == [20]
    assert classify.model.config.token_budget == 20
    assert as_dict(answer) == pytest.approx(expected_scores(clip, token_budget=20), abs=1e-6)


def test_budget_of_the_processor(tiny_checkpoint, tiny_processor, kept, make_video):
    clip = str(make_video("clip.mp4"))
    processor = FluxVideoProcessor(**{**tiny_processor.to_dict(), "token_budget": 33})
    classify = pipeline("video-classification", model=tiny_checkpoint, video_processor=processor)
    counts = kept(classify)
    classify(clip)
    classify.video_processor.token_budget = 96
    classify(clip)
    assert counts == [33, 96]


def test_budget_of_the_processor_chooses_the_grid(classify, make_video):
    shapes = []
    classify.model.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(tuple(options["pixel_values_videos"].shape)), with_kwargs=True
    )
    clip = str(make_video("clip.mp4"))
    classify(clip)
    classify.video_processor.token_budget = 96
    classify(clip)
    assert shapes == [(1, 6, 3, 56, 56), (1, 8, 3, 70, 70)]


def compiled(classify, **options):
    torch._dynamo.reset()
    classify.model = torch.compile(classify.model, **options)
    return classify


@pytest.mark.long
def test_compiled_graph(classify, kept, expected_scores, make_video):
    """One whole graph, run without generating code, which would need a C++ compiler."""
    classify = compiled(classify, fullgraph=True, backend="eager")
    clip = make_video("clip.mp4")
    assert as_dict(classify(str(clip))) == pytest.approx(expected_scores(clip), abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
def test_compiled(classify, expected_scores, make_video):
    classify = compiled(classify, fullgraph=True)
    clip = make_video("clip.mp4")
    assert as_dict(classify(str(clip))) == pytest.approx(expected_scores(clip), abs=1e-5)
