import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from flux_hf.scripts.evaluate_retrieval import main
from flux_hf.text.embedding import embed_texts
from flux_hf.text.loading import load_clip
from flux_hf.text.pairs import load_pairs
from flux_hf.text.retrieval_evaluation import evaluate_retrieval
from tests.tiny_search import captioned_videos, save_searching, searching_model, searching_processor

CAPTIONS = [
    ["a dark square moves left"],
    ["a bright square", "the square moves up"],
    ["noise"],
    ["large noise turns slowly", "a video of noise"],
    ["a small square moves down"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five videos with captions; the third cannot be read."""
    folder = captioned_videos(tmp_path_factory.mktemp("captioned"), CAPTIONS)
    (folder / "clips" / "2.mp4").write_bytes(b"nothing to see")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_searching(tmp_path_factory.mktemp("checkpoint"))


def test_figures_equal_asking_the_model_one_by_one(folder, checkpoint, tmp_path, capsys):
    output = tmp_path / "retrieval.json"
    command = ["--dataset", str(folder), "--checkpoint", str(checkpoint), "--output", str(output)]
    main([*command, "--token_budgets", "64", "32", "16", "--batch_size", "3"])
    said, result = capsys.readouterr(), json.loads(output.read_text())

    model, processor = load_clip(checkpoint)
    readable = [0, 1, 3, 4]
    texts = [text for row in readable for text in CAPTIONS[row]]
    owners = [place for place, row in enumerate(readable) for _ in CAPTIONS[row]]
    assert (result["num_videos"], result["num_texts"], result["repeated_texts"]) == (4, 6, 0)
    assert [entry["video"] for entry in result["unreadable"]] == ["2.mp4"]
    assert "2.mp4" in said.err and "4 videos, 6 texts" in said.out and "Chance: text to video R@1 25.0" in said.out
    assert result["truncated_texts"] == 0 and result["command"].startswith("flux-hf evaluate-retrieval --dataset")
    rows = []
    for budget in (64, 32, 16):
        videos = [str(folder / "clips" / f"{row}.mp4") for row in readable]
        with torch.no_grad():
            tables = [
                model(**processor(videos=[video], text=texts, token_budget=budget, return_tensors="pt"))
                for video in videos
            ]
        similar = np.stack([table.logits_per_text[:, 0].numpy() for table in tables], axis=1)
        hits = [int(np.argmax(row)) == owner for row, owner in zip(similar, owners, strict=True)]
        own = [owners[int(np.argmax(column))] == place for place, column in enumerate(similar.T)]
        figures = result["budgets"][str(budget)]
        assert figures["text_to_video"]["r1"] == pytest.approx(np.mean(hits))
        assert figures["video_to_text"]["r1"] == pytest.approx(np.mean(own))
        assert figures["grid"] == list(processor.video_processor.choose_grid(budget)) and figures["gmacs"] > 0
        rows.append(similar)
    assert not np.allclose(rows[0], rows[1], atol=1e-3)  # the budgets do say different things


def test_an_interrupted_run_goes_on(folder, checkpoint, tmp_path, capsys):
    output = tmp_path / "retrieval.json"
    command = ["--dataset", str(folder), "--checkpoint", str(checkpoint), "--output", str(output)]
    main(command)
    whole = json.loads(output.read_text())
    records = tmp_path / "retrieval.videos" / "videos.0.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    main(command)
    again = json.loads(output.read_text())
    assert again["budgets"] == whole["budgets"] and again["speed"]["videos"] < whole["speed"]["videos"]
    with pytest.raises(ValueError, match="holds results of other options.*token_budgets"):
        main([*command, "--token_budgets", "16"])


def test_captions_count_in_the_hash(folder, tmp_path):
    model, processor = searching_model(), searching_processor()
    dataset = load_pairs(folder, "test")
    changed = captioned_videos(tmp_path, [*CAPTIONS[:4], ["a large square moves down"]])
    (changed / "clips" / "2.mp4").write_bytes(b"nothing to see")
    results = [evaluate_retrieval(rows, model, processor, [16]) for rows in (dataset, load_pairs(changed, "test"))]
    assert results[0]["files"] != results[1]["files"]
    copy = captioned_videos(tmp_path / "copy", CAPTIONS)
    (copy / "clips" / "2.mp4").write_bytes(b"nothing to see")
    assert evaluate_retrieval(load_pairs(copy, "test"), model, processor, [16])["files"] == results[0]["files"]


def test_paragraphs_and_what_a_sentence_loses(folder, checkpoint, tmp_path):
    output = tmp_path / "retrieval.json"
    command = ["--dataset", str(folder), "--checkpoint", str(checkpoint), "--token_budgets", "16"]
    main([*command, "--paragraphs", "--max_text_tokens", "5", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["num_texts"] == result["num_videos"] == 4 and result["paragraphs"] is True
    # The single captions have five words, the paragraphs more.
    assert result["truncated_texts"] == 2
    assert result["max_text_tokens"] == 5


def test_equal_sentences(tmp_path, checkpoint):
    folder = captioned_videos(tmp_path, [["a square"], ["a square"], ["noise"]])
    model, processor = load_clip(checkpoint)
    pair, text = (
        evaluate_retrieval(load_pairs(folder, "test"), model, processor, [32], match=match)
        for match in ("pair", "text")
    )
    assert pair["repeated_texts"] == text["repeated_texts"] == 1
    chances = [result["budgets"][32]["text_to_video"]["chance"]["r1"] for result in (pair, text)]
    assert chances == pytest.approx([1 / 3, 5 / 9])
    # Each of two videos that are described alike has a text at its side that is as near: its own is never the first.
    assert pair["budgets"][32]["video_to_text"]["r1"] <= 1 / 3
    with pytest.raises(ValueError, match="match must be one of pair, text, got 'both'"):
        evaluate_retrieval(load_pairs(folder, "test"), model, processor, [32], match="both")


def test_sentences_are_embedded_once_and_in_their_order():
    model, processor = searching_model(), searching_processor()
    seen = []
    forward = model.text_model.forward
    model.text_model.forward = lambda **inputs: seen.append(len(inputs["input_ids"])) or forward(**inputs)
    texts = ["a square", "large noise turns slowly", "a square", "noise", "a square"]
    found = embed_texts(model, processor, texts, batch_size=2)
    assert sum(seen) == 3 and (found[0] == found[2]).all()
    for text, embedding in zip(texts, found, strict=True):
        alone = model.get_text_features(**processor(text=[text], return_tensors="pt")).pooler_output[0]
        np.testing.assert_allclose(embedding, alone.detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--token_budgets", "0"], "^--token_budgets must be at least 1, got 0$"),
        (["--max_text_tokens", "0"], "^--max_text_tokens must be at least 1, got 0$"),
        (["--max_text_tokens", "600"], "must have 1 to 512 tokens for this bert, got 600"),
        (["--output", "r.csv"], "^--output must end in .json, got r.csv$"),
        (["--split", "validation"], "test"),
    ],
)
def test_bad_options(folder, checkpoint, option, message):
    with pytest.raises(ValueError, match=message):
        main(["--dataset", str(folder), "--checkpoint", str(checkpoint), *option])


def test_a_model_without_words(folder, tiny_checkpoint):
    with pytest.raises(ValueError, match=r"--checkpoint .*: it is a fluxvit, which knows no words"):
        main(["--dataset", str(folder), "--checkpoint", str(tiny_checkpoint)])


@pytest.mark.slow
def test_processes_share_the_videos(folder, checkpoint, tmp_path):
    output = tmp_path / "retrieval.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "flux_hf.scripts.evaluate_retrieval", "--dataset", str(folder), "--checkpoint", str(checkpoint)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--output", str(output)], env=environment, check=True, capture_output=True, timeout=600)
    result = json.loads(output.read_text())
    alone = evaluate_retrieval(load_pairs(folder, "test"), *load_clip(checkpoint), [64, 32])
    for budget, figures in alone["budgets"].items():
        assert result["budgets"][str(budget)] == json.loads(json.dumps(figures))
    assert result["speed"]["processes"] == 2 and result["unreadable"] == alone["unreadable"]
