"""The dual encoder in use: processor, zero-shot pipeline, sentence-transformers, and a machine without flux_hf."""

import json
import logging

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoProcessor, AutoTokenizer, AutoVideoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from flux_hf import FluxVideoProcessor, FluxViTClipModel, FluxViTClipProcessor, FluxZeroShotVideoClassificationPipeline
from flux_hf.processing.prompt_templates_fluxvit import PROMPT_TEMPLATES, prompt_templates
from tests.minimal_environment import make_environment
from tests.test_remote_code import PACKAGES, run
from tests.tiny_clip import tiny_clip, tiny_clip_processor

TASK = "zero-shot-video-classification"
LABELS = ["red ball", "blue box", "moves left"]
REMOTE = """
import json, sys
sys.modules["flux_hf"] = None
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
folder, clip, *labels = sys.argv[1:]
trust = {"trust_remote_code": True}
model, processor = AutoModel.from_pretrained(folder, **trust), AutoProcessor.from_pretrained(folder, **trust)
with torch.no_grad():
    logits = model(**processor(videos=clip, text=labels, token_budget=48, return_tensors="pt")).logits_per_video
classify = pipeline("flux-zero-shot-video-classification", model=folder, **trust)
print(json.dumps({
    "modules": sorted({type(each).__module__.split(".")[0] for each in (model, processor, classify)}),
    "config": type(AutoConfig.from_pretrained(folder, **trust)).__name__,
    "logits": logits[0].tolist(),
    "answer": classify(clip, candidate_labels=labels, token_budget=48),
}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder that a zero-shot pipeline saved; read only."""
    folder = tmp_path_factory.mktemp("clip")
    FluxZeroShotVideoClassificationPipeline(model=tiny_clip(), processor=tiny_clip_processor()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint):
    return FluxViTClipModel.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def processor(checkpoint):
    return FluxViTClipProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def classify(checkpoint):
    return pipeline(TASK, model=str(checkpoint), device="cpu")


@pytest.fixture
def clips(make_video):
    """Of different sizes and lengths."""
    sizes = ((12, 96, 72), (30, 64, 90), (9, 80, 80))
    return [
        str(make_video(f"{number}.mp4", frames=frames, width=width, height=height, seed=number))
        for number, (frames, width, height) in enumerate(sizes)
    ]


def scores(model, processor, clip, sentences: list[list[str]], budget: int) -> list[float]:
    """Softmax over classes, each the mean of its sentences' embeddings."""
    with torch.no_grad():
        videos = processor(videos=clip, token_budget=budget, return_tensors="pt")
        video = model.get_video_features(**videos).pooler_output
        classes = []
        for of_class in sentences:
            embeds = [model.get_text_features(**processor(text=[each], return_tensors="pt")) for each in of_class]
            classes.append(torch.stack([each.pooler_output[0] for each in embeds]).mean(0))
        logits = model.get_scale() * video @ normalize(torch.stack(classes), dim=-1).T
    return logits.softmax(-1)[0].tolist()


def by_label(answer: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


# The processor


def test_videos_and_sentences_in_one_call(processor, clips):
    inputs = processor(
        videos=clips, text=["a red ball", "the box moves left slowly"], token_budget=48, return_tensors="pt"
    )
    assert sorted(inputs) == ["attention_mask", "input_ids", "pixel_values_videos", "token_budget"]
    assert inputs["pixel_values_videos"].shape == (3, 4, 3, 56, 56) and inputs["token_budget"] == 48
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    videos = processor.video_processor(clips, token_budget=48, return_tensors="pt")
    assert torch.equal(inputs["pixel_values_videos"], videos["pixel_values_videos"])
    assert processor(text="a red ball", max_length=2)["input_ids"] == processor(text="a red")["input_ids"]
    assert sorted(processor(videos=clips[0])) == ["pixel_values_videos", "token_budget"]
    with pytest.raises(ValueError, match="give videos, text, or both"):
        processor()
    with pytest.raises(ValueError, match="token_budget.* must be an integer >= 1"):
        processor(videos=clips, token_budget=0)
    with pytest.raises(ValueError, match="max_length must be an integer >= 1, got 0"):
        FluxViTClipProcessor(processor.video_processor, processor.tokenizer, max_length=0)


def test_sentences_that_are_cut_are_said(processor, caplog, monkeypatch):
    """After 32 tokens, and not for sentences that fit."""
    monkeypatch.setattr(logging.getLogger("flux_hf"), "propagate", True)
    assert len(processor(text=" ".join(["ball"] * 32))["input_ids"]) == 32
    assert not caplog.records
    long = [" ".join(["ball"] * 33)] * 3  # said once: another test must not have said the same
    assert len(processor(text=[*["red"] * 4, *long])["input_ids"][4]) == 32
    assert "3 of 7 sentences" in caplog.text and "max_length=32" in caplog.text


def test_an_option_that_nothing_knows_is_an_error(processor, clips):
    for given in ({"videos": clips[0]}, {"text": "a ball"}):
        with pytest.raises(TypeError, match="no option 'token_budgett'"):
            processor(**given, token_budgett=3)


def test_both_parts_are_saved(checkpoint, processor, tmp_path):
    for folder in (checkpoint,):
        again = AutoProcessor.from_pretrained(folder)
        assert type(again) is FluxViTClipProcessor
        assert again.video_processor.grids == {24: (4, 42), 48: (4, 56)}
        assert type(AutoVideoProcessor.from_pretrained(folder)) is FluxVideoProcessor
        assert (
            AutoTokenizer.from_pretrained(folder)("red ball")["input_ids"]
            == processor.tokenizer("red ball")["input_ids"]
        )


# The pipeline


def test_answers_with_all_labels_best_first(classify, model, processor, clips):
    assert type(classify) is FluxZeroShotVideoClassificationPipeline
    answer = classify(clips[0], candidate_labels=LABELS)
    assert [tuple(entry) for entry in answer] == [("score", "label")] * 3
    assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)
    expected = scores(model, processor, clips[0], [[f"a video of {label}"] for label in LABELS], 24)
    assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
    assert classify(clips[0], LABELS, top_k=1) == answer[:1]


@pytest.mark.parametrize(
    ("given", "templates"),
    [
        ("the {} of a", ["the {} of a"]),
        (["{}", "a clip of {}"], ["{}", "a clip of {}"]),
        ("kinetics", PROMPT_TEMPLATES["kinetics"]),
    ],
    ids=["one", "two", "a set"],
)
def test_templates(classify, model, processor, clips, given, templates):
    answer = classify(clips[0], candidate_labels=LABELS, hypothesis_template=given)
    sentences = [[template.replace("{}", label) for template in templates] for label in LABELS]
    expected = scores(model, processor, clips[0], sentences, 24)
    assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)


def test_a_budget_for_every_call_and_labels_embedded_once(classify, model, processor, clips):
    calls, forwards = [], []
    hooks = [
        classify.model.text_model.register_forward_hook(lambda *_: calls.append(1)),
        classify.model.vision_model.register_forward_hook(lambda _, inputs, __: forwards.append(inputs[0].shape)),
    ]
    answers = classify(clips, candidate_labels=LABELS, token_budget=48, batch_size=2)
    for hook in hooks:
        hook.remove()
    assert len(calls) == 1
    assert forwards == [(2, 4, 3, 56, 56), (1, 4, 3, 56, 56)]
    for clip, answer in zip(clips, answers, strict=True):
        expected = scores(model, processor, clip, [[f"a video of {label}"] for label in LABELS], 48)
        assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)


def test_options_for_all_calls(checkpoint, classify, clips):
    settled = pipeline(TASK, model=str(checkpoint), candidate_labels=LABELS, hypothesis_template="{}", token_budget=48)
    wanted = classify(clips[0], candidate_labels=LABELS, hypothesis_template="{}", token_budget=48)
    assert by_label(settled(clips[0])) == pytest.approx(by_label(wanted))
    other = classify(clips[0], candidate_labels=["red", "box"], hypothesis_template="{}", token_budget=48)
    assert by_label(settled(clips[0], candidate_labels=["red", "box"])) == pytest.approx(by_label(other))


def test_several_views(classify, clips):
    """The mean of their scores; two clips of two crops."""
    [answer] = classify(clips[1:2], candidate_labels=LABELS, num_clips=2, num_crops=2)
    assert sum(by_label(answer).values()) == pytest.approx(1)
    assert by_label(answer) != pytest.approx(by_label(classify(clips[1], candidate_labels=LABELS)), abs=1e-4)


def test_generators_are_answered_one_by_one(classify, clips):
    answers = classify((clip for clip in clips), candidate_labels=LABELS)
    assert by_label(next(iter(answers))) == pytest.approx(by_label(classify(clips[0], candidate_labels=LABELS)))


def test_a_sigmoid_model_gives_every_label_a_score_of_its_own(processor, clips):
    model = tiny_clip(loss="sigmoid")
    classify = FluxZeroShotVideoClassificationPipeline(model=model, processor=processor, device="cpu")
    both, one = classify(clips[0], LABELS), classify(clips[0], LABELS[:1])
    assert by_label(one)[LABELS[0]] == pytest.approx(by_label(both)[LABELS[0]], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give candidate_labels"),
        ({"candidate_labels": []}, "list of different names, at least one, got \\[\\]"),
        ({"candidate_labels": "red, blue"}, "list of different names, at least one, got 'red, blue'"),
        ({"candidate_labels": ["red", "red"]}, "list of different names"),
        ({"candidate_labels": ["red", 3]}, "list of different names"),
        ({"candidate_labels": ["red", " "]}, "list of different names"),
        ({"candidate_labels": ["red"], "hypothesis_template": "a video"}, "template needs one {} .* got 'a video'"),
        ({"candidate_labels": ["red"], "hypothesis_template": ["{} {}"]}, "template needs one {}"),
        ({"candidate_labels": ["red"], "token_budget": 0}, "token_budget must be an integer >= 1"),
    ],
)
def test_calls_that_are_refused(classify, clips, options, message):
    with pytest.raises(ValueError, match=message):
        classify(clips[0], **options)


def test_labels_may_hold_braces(classify, clips):
    assert {entry["label"] for entry in classify(clips[0], candidate_labels=["{red}", "{}"])} == {"{red}", "{}"}


def test_a_model_without_words_is_refused(tiny_checkpoint, processor):
    with pytest.raises(ValueError, match="needs a model that compares videos with texts"):
        FluxZeroShotVideoClassificationPipeline(
            model=pipeline("video-classification", model=tiny_checkpoint).model, processor=processor
        )


def test_every_set_of_templates_is_one():
    for name in PROMPT_TEMPLATES:
        assert prompt_templates(name) == PROMPT_TEMPLATES[name]
        assert len(set(PROMPT_TEMPLATES[name])) == len(PROMPT_TEMPLATES[name])


def test_the_saved_pipeline_asks_nobody_who_has_the_package(checkpoint):
    """The task that needs consent has a name of its own."""
    assert TASK in PIPELINE_REGISTRY.get_supported_tasks()
    config = json.loads((checkpoint / "config.json").read_text())
    assert list(config["custom_pipelines"]) == [f"flux-{TASK}"]
    assert (checkpoint / "zero_shot_pipeline_fluxvit.py").is_file()


def test_a_checkpoint_without_the_pipelines_file_does_not_name_it(checkpoint, tmp_path):
    FluxViTClipModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "config.json").read_text()).get("custom_pipelines")


# Elsewhere


def test_a_machine_without_flux_hf(warm_python, checkpoint, classify, model, processor, clips, tmp_path):
    done = warm_python.run(REMOTE, str(checkpoint), clips[0], *LABELS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["modules"] == ["transformers_modules"] and found["config"] == "FluxViTClipConfig"
    with torch.no_grad():
        logits = model(**processor(videos=clips[0], text=LABELS, token_budget=48, return_tensors="pt")).logits_per_video
    assert found["logits"] == pytest.approx(logits[0].tolist(), abs=1e-3)
    expected = classify(clips[0], candidate_labels=LABELS, token_budget=48)
    assert by_label(found["answer"]) == pytest.approx(by_label(expected), abs=1e-4)


@pytest.mark.slow
def test_a_machine_with_nothing_else(checkpoint, clips, tmp_path):
    """Only transformers, torch, torchvision and av are installed there."""
    python = make_environment(tmp_path / "venv", PACKAGES)
    done = run(python, REMOTE, checkpoint, clips[0], *LABELS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout.splitlines()[-1])["answer"]) == 3


@pytest.mark.slow
def test_sentence_transformers(checkpoint, model, processor, clips, tmp_path):
    """The real package, with no code of ours: it finds both ways in and the width, encodes, compares and saves."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = sentence_transformers.SentenceTransformer(str(checkpoint), device="cpu")
    assert sorted(encoder.modalities) == ["text", "video"]
    assert encoder.get_embedding_dimension() == 20
    videos = encoder.encode([{"video": clip} for clip in clips])
    texts = encoder.encode(["a red ball", "the box moves left"])
    with torch.no_grad():
        inputs = processor(videos=clips, text=["a red ball", "the box moves left"], return_tensors="pt")
        expected = model(**inputs)
    np.testing.assert_allclose(videos, expected.video_embeds, atol=1e-5)
    np.testing.assert_allclose(texts, expected.text_embeds, atol=1e-5)
    similarities = encoder.similarity(videos, texts)
    torch.testing.assert_close(similarities * model.get_scale(), expected.logits_per_video, atol=1e-2, rtol=1e-3)
    larger = encoder.encode([{"video": clips[0]}], processing_kwargs={"video": {"token_budget": 48}})
    with torch.no_grad():
        expected = model.get_video_features(**processor(videos=clips[0], token_budget=48, return_tensors="pt"))
    np.testing.assert_allclose(larger, expected.pooler_output, atol=1e-5)
    encoder.save(str(tmp_path))
    again = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(again.encode(["a red ball"]), texts[:1], atol=1e-6)
