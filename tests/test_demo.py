"""What is behind the page of `flux-hf demo`: answers, uploads, accuracy, HTML. No browser, no gradio."""

import base64
import io
import json
import re
import shutil
import socket
from html.parser import HTMLParser
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

import flux_hf
from flux_hf.checkpoints import example_clips
from flux_hf.classification import classify
from flux_hf.demo import cards
from flux_hf.demo.accuracy import KnownAccuracy, card_accuracy, evaluated_accuracy
from flux_hf.demo.classifier import BudgetRange, OpenVideo, load_demo_classifier
from flux_hf.demo.uploads import Uploads
from flux_hf.hub.model_card import build_model_card
from flux_hf.scripts.demo import main
from tests.conftest import ROOT

RESULTS = ROOT / "scripts" / "experiments" / "default_checkpoint" / "results"


@pytest.fixture(scope="module")
def nano():
    return load_demo_classifier("default")


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint):
    return load_demo_classifier(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def moves_left(nano):
    video = OpenVideo(example_clips()["moves_left"])
    return nano.answer(video, 64), nano.answer(video, 256)


def evaluation(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_a_moved_slider_decodes_nothing(nano, tmp_path):
    path = shutil.copy(example_clips()["recedes"], tmp_path / "film.mp4")
    expected = classify(path, nano.model, nano.processor, 128, 5)
    video = OpenVideo(path)
    nano.answer(video, 256)
    path.unlink()
    answer = nano.answer(video, 128)
    assert answer.labels == expected.labels and answer.keep_mask.equal(expected.keep_mask)
    assert nano.answer(video, 100).tokens_kept == 100
    assert nano.answer(video, 400).tokens_kept == 400
    assert nano.answer(video, 128) is answer


@pytest.mark.parametrize(("confidence", "answered"), [(0.0, 64), (1.0, 256)])
def test_a_calibrated_model_chooses(nano, confidence, answered, monkeypatch):
    monkeypatch.setattr(nano.model.config, "adaptive_budget", None)
    assert not nano.is_calibrated
    settings = {"token_budgets": [64, 256], "confidences": [confidence]}
    monkeypatch.setattr(nano.model.config, "adaptive_budget", settings)
    assert nano.is_calibrated
    video = OpenVideo(example_clips()["still"])
    found, fixed = nano.answer(video, "auto"), nano.answer(video, answered)
    assert len(video.clips) == 1 and found.labels[0] == fixed.labels[0]
    assert found.answered_budget == found.tokens_kept == answered
    assert f"Sure enough with {answered} tokens" in cards.answer_card(found, nano.processor)


def test_each_grid_is_decoded_when_it_is_needed(tiny, make_video):
    path = make_video("film.mp4")
    video = OpenVideo(path)
    assert tiny.answer(video, 40).grid == (6, 56)
    assert tiny.answer(video, 49).grid == (8, 70)
    path.unlink()
    tiny.answer(video, 96), tiny.answer(video, 48)
    with pytest.raises(flux_hf.VideoDecodeError):
        tiny.answer(OpenVideo(path), 48)


@pytest.mark.parametrize(
    ("budgets", "least", "step"),
    [([256, 128, 64], 16, 8), ([3072, 2048, 1024], 256, 128), ([96, 50], 12, 2), ([3], 1, 1)],
)
def test_the_slider_reaches_every_trained_budget(nano, budgets, least, step):
    class Trained(type(nano)):
        token_budgets = sorted(budgets)

    found = Trained(nano.name, nano.model, nano.processor).budget_range()
    assert (found.least, found.step) == (least, step)
    assert found.least <= min(budgets) and max(budgets) <= found.most <= 2 * max(budgets)
    assert all((budget - found.least) % found.step == 0 for budget in [*budgets, found.most])


def test_the_slider_of_the_package(nano):
    assert nano.budget_range() == BudgetRange(16, 512, 8)
    assert [nano.grid_budget(tokens) for tokens in (16, 64, 72, 256, 512)] == [64, 64, 128, 256, 256]


class TestUploads:
    def files(self, folder, *names):
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"film")
        return [folder / name for name in names]

    def test_sessions_see_their_own(self, tmp_path):
        first, second = self.files(tmp_path, "a/one.mp4", "b/two.mp4")
        uploads = Uploads(tmp_path)
        uploads.open("A", first), uploads.open("B", second)
        assert (uploads.get("A").path, uploads.get("B").path) == (first, second)
        assert uploads.get("C") is None

    def test_a_file_goes_with_its_session(self, tmp_path):
        first, second, beside = self.files(tmp_path, "a/one.mp4", "b/two.mp4", "a/beside.mp4")
        uploads = Uploads(tmp_path)
        uploads.open("A", first)
        uploads.open("A", second)
        assert not first.exists() and second.exists() and beside.exists()
        uploads.close("A")
        uploads.close("A")
        assert not second.parent.exists() and uploads.get("A") is None

    def test_what_two_have_uploaded_stays_for_the_second(self, tmp_path):
        (film,) = self.files(tmp_path, "a/one.mp4")
        uploads = Uploads(tmp_path)
        uploads.open("A", film), uploads.open("B", film)
        uploads.close("A")
        uploads.discard(film)
        assert film.exists()
        uploads.close("B")
        assert not film.exists()

    def test_other_files_are_never_deleted(self, tmp_path):
        (mine,) = self.files(tmp_path, "mine.mp4")
        (tmp_path / "uploads").mkdir()
        uploads = Uploads(tmp_path / "uploads")
        uploads.open("A", tmp_path / "uploads" / ".." / "mine.mp4")
        uploads.close("A")
        uploads.discard(mine)
        assert mine.exists()

    def test_the_oldest_session_makes_room(self, tmp_path):
        first, second, third = self.files(tmp_path, "a/1.mp4", "b/2.mp4", "c/3.mp4")
        uploads = Uploads(tmp_path, most_sessions=2)
        uploads.open("A", first), uploads.open("B", second), uploads.get("A")
        uploads.open("C", third)
        assert uploads.get("B") is None and not second.exists()
        assert uploads.get("A") is not None and uploads.get("C") is not None


class TestAccuracy:
    def test_the_card_of_the_package_says_what_was_measured(self, nano):
        rendered, photos = nano.accuracy
        for known, name in ((rendered, "rendered"), (photos, "photographs")):
            measured = {int(b): figures["top1"] for b, figures in evaluation(name)["budgets"].items()}
            assert known.top1 == pytest.approx(measured, abs=5e-5) and list(known.top1) == [64, 128, 256]

    def test_a_card_that_push_writes_is_read(self, nano, tmp_path):
        card = build_model_card(
            tmp_path, "me/film", nano.model, nano.processor, evaluations=[evaluation("photographs")]
        )
        card.save(tmp_path / "README.md")
        (read,), (given,) = card_accuracy(str(tmp_path)), evaluated_accuracy([evaluation("photographs")])
        assert read.dataset == given.dataset
        assert read.top1 == pytest.approx(given.top1, abs=5e-5)

    @pytest.mark.parametrize("card", [None, "", "# A card without metadata", "---\nlicense: mit\n---\n"])
    def test_nothing_where_nothing_is_known(self, card, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        if card is not None:
            (tmp_path / "README.md").write_text(card)
        assert card_accuracy(str(tmp_path)) == []
        assert cards.accuracy_chart([], BudgetRange(16, 512, 8), {"A": 64}) == ""


class Tags(HTMLParser):
    """Tags and text of an HTML text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "


class TestCards:
    def test_labels_and_costs(self, nano, moves_left):
        for result in moves_left:
            shown = Tags(cards.answer_card(result, nano.processor))
            assert shown.text.split()[0] == "moves_left"
            assert all(name in shown.text and f"{100 * score:.1f} %" in shown.text for name, score in result.labels)
            tokens = f"{result.tokens_kept} of {result.grid_tokens}"
            costs = f"tokens kept {tokens} arithmetic {result.gmacs:.2f} GMACs"
            assert costs in " ".join(shown.text.split())

    def test_the_opaque_pixels_are_the_kept_tokens(self, nano, moves_left):
        few, _ = moves_left
        pictures = [tag["src"] for name, tag in Tags(cards.answer_card(few, nano.processor)).tags if name == "img"]
        assert len(pictures) == 8
        patches = few.grid.size // 8
        kept = few.keep_mask.numpy().reshape(4, patches, patches).repeat(2, axis=0)  # a token covers two frames
        for source, tokens in zip(pictures, kept, strict=True):
            picture = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/webp;base64,"))))
            opaque = np.asarray(picture)[..., 3] > 128
            side = opaque.shape[0] // patches
            assert (opaque == tokens.repeat(side, 0).repeat(side, 1)).mean() > 0.995

    def test_names_of_others_are_no_html(self):
        shown = Tags(cards.error_card("<img src=x onerror=alert(1)>.mp4", "no <b>video</b>\nhere"))
        assert {name for name, _ in shown.tags} <= {"div", "h3", "p", "b"}
        assert "<img src=x onerror=alert(1)>.mp4" in shown.text and "no <b>video</b>" in shown.text

    def test_comparison(self, moves_left):
        few, many = moves_left
        share = 100 * few.gmacs / many.gmacs
        for pair in ((few, many), (many, few)):
            assert f"The same answer for {share:.0f} %" in " ".join(Tags(cards.comparison(*pair)).text.split())
        assert "same 64 tokens" in cards.comparison(few, few)

    def test_chart(self):
        known = [KnownAccuracy("A & B", {64: 0.9, 256: 0.95})]
        svg = cards.accuracy_chart(known, BudgetRange(16, 512, 8), {"A": 64, "B": 4096})
        shown = Tags(svg)
        (low, high) = (tag for name, tag in shown.tags if name == "circle")
        (a, b) = (tag for name, tag in shown.tags if name == "line" and "x" not in tag and tag["x1"] == tag["x2"])
        assert float(low["cx"]) == pytest.approx(float(a["x1"]), abs=0.1)
        assert float(low["cy"]) > float(high["cy"]) and float(low["cx"]) < float(high["cx"]) < float(b["x1"])
        assert "A & B" in shown.text and "64 tokens: 90.0 %" in shown.text
        assert max(float(number) for number in re.findall(r'x[12]?="([\d.]+)"', svg)) <= 480


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(OSError, match=f"--host 127.0.0.1 --port {port}: Address already in use"):
            main(["--port", port])
    with pytest.raises(OSError, match="--host 192.0.2.1 --port 7860: Cannot assign requested address"):
        main(["--host", "192.0.2.1"])


def test_wrong_options():
    with pytest.raises(ValueError, match="--port must be at least 1, got 0"):
        main(["--port", "0"])
    with pytest.raises(ValueError, match="--port must be at most 65535, got 70000"):
        main(["--port", "70000"])
    with pytest.raises(ValueError, match="--upload_mb must be at least 1"):
        main(["--upload_mb", "0"])


@pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio: the command says so first")
@pytest.mark.parametrize("content", [None, "[]"])
def test_evaluations_that_are_none(tmp_path, content):
    path = tmp_path / "figures.json"
    if content is not None:
        path.write_text(content)
    with socket.create_server(("127.0.0.1", 0)) as freed:
        port = freed.getsockname()[1]
    with pytest.raises(ValueError, match=f"--evaluations {path}: "):
        main(["--port", str(port), "--evaluations", str(path)])
