"""The commands and the Python of docs/video_text.md run as they stand, on a tiny model and three clips."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from flux_hf import cli
from flux_hf.options.recipes import recipe_names
from tests import tiny_aligning, tiny_training
from tests.video_files import encode_video

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "video_text.md").read_text(encoding="utf-8")
LEVELS = {"dark": 30, "grey": 110, "bright": 220}


def lines(heading: str) -> list[list[str]]:
    """The words of every command between a heading and the next one, without the program."""
    part = re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    blocks = re.findall(r"```\n(.*?)```", part, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def grey_clip(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = lambda frame, height, width: np.full((height, width, 3), level + frame, np.uint8)  # noqa: E731
    path.write_bytes(encode_video(6, height=48, width=64, picture=picture))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the page takes for granted, and what its first command, which aligns, makes of it."""
    place = tmp_path_factory.mktemp("guide")
    torch.manual_seed(0)
    tiny_training.model().save_pretrained(place / "video")
    tiny_training.processor().save_pretrained(place / "video")
    tiny_aligning.text_folder(place / "text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for word, level in LEVELS.items():
            grey_clip(Path(f"my/clips/{word}.mp4"), level)
            for number in range(2):
                grey_clip(Path(f"my/labelled/test/{word}/{number}.mp4"), level + 5 * number)
        with open("my/clips/metadata.csv", "w", newline="") as file:
            csv.writer(file).writerows([["file_name", "caption"], *([f"{w}.mp4", f"a {w} clip"] for w in LEVELS)])
        align, embed, _ = lines("Video and text")
        cli.main([*(word.replace("ENCODER", "text") for word in align), *_small(place)])
        cli.main(embed)
    return place


def _small(place: Path) -> list[str]:
    """Options after the page's: the tiny model, thirty steps."""
    tiny = tiny_aligning.arguments(place)
    options = {name: getattr(tiny, name) for name in tiny_aligning.GRIDS}
    options |= {
        "model": place / "video",
        "projection_dim": 8,
        "num_frames": 4,
        "size": 42,
        "max_steps": 40,
        "use_cpu": True,
    }
    options |= {"per_device_train_batch_size": 3, "learning_rate": 0.003, "save_strategy": "no", "warmup_steps": 0}
    options |= {"dataloader_num_workers": 0, "dataloader_persistent_workers": False, "eval_strategy": "no"}
    return [*(f"--{name}={value}" for name, value in options.items()), "--token_budgets", "24", "12"]


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place)


def test_three_commands_find_the_right_clip(capsys):
    *_, search = lines("Video and text")
    for word in LEVELS:
        cli.main([argument.replace("dark", word) for argument in search])
        first = capsys.readouterr().out.splitlines()[0]
        assert first.endswith(f"my/clips/{word}.mp4"), f"{word}: {first}"


def test_an_index(capsys):
    embed, search, like = lines("An index to search in")
    cli.main(embed)
    capsys.readouterr()
    cli.main(search)
    assert capsys.readouterr().out.splitlines()[0].endswith("my/clips/dark.mp4")
    cli.main(like)
    assert capsys.readouterr().out.splitlines()[0] == " 1.000  my/clips/dark.mp4"


@pytest.mark.parametrize(("number", "printed"), [(0, "grey.mp4"), (1, "dark"), (2, "tensor"), (3, "tensor")])
def test_python(number, printed, capsys):
    if number == 3:
        pytest.importorskip("sentence_transformers")
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(examples[number], "video_text.md", "exec"), {"__name__": "example"})
    assert printed in capsys.readouterr().out.splitlines()[0]


def test_retrieval():
    (command,) = lines("Retrieval")
    cli.main(command)
    result = json.loads(Path("retrieval.json").read_text())
    assert result["budgets"]["24"]["text_to_video"]["r1"] == 1 and result["split"] == "train"


def test_zero_shot(capsys):
    (command,) = lines("Zero-shot accuracy")
    cli.main(command)
    said = capsys.readouterr().out
    assert "split test: 6 videos" in said and "Zero-shot: 3 names in 1 template; chance 33.3." in said
    assert re.search(r"\| 24 .* \| 100.0 \(", said)


@pytest.mark.parametrize("number", [0, 1])
def test_token_optimization(number, capsys):
    command = lines("Token Optimization")[number]
    cli.main([*command, "--frames", "2", "4", "--sizes", "28", "42", "--rounds", "1"])
    assert "What the videos can tell" in capsys.readouterr().out


def test_training(place, capsys):
    """The first command trains the text encoder, too; the second goes on from what the page's first one made."""
    with open("my/pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["video", "caption"], *([f"clips/{w}.mp4", f"a {w} clip"] for w in LEVELS)])
    towers, on = lines("Training")
    small = _small(place)
    cli.main([*(word.replace("ENCODER", "text") for word in towers), *small, "--max_steps", "1"])
    start = [*small[: small.index("--token_budgets")], "--token_budgets", "24", "12"]
    start = [word for word in start if not word.startswith("--model=")]
    cli.main([*on, *start, "--max_steps", "1"])
    assert "In evaluation, captions that find their clip first:" in capsys.readouterr().out
    assert Path("runs/small/model.safetensors").is_file() and Path("runs/more/model.safetensors").is_file()


def test_the_recipes_of_the_paper_are_there():
    assert [words[1] for words in lines("Recipes of the paper")] == ["align_small_25m", "align_small_2_5m"]
    assert {"align_small_25m", "align_small_2_5m"} <= set(recipe_names())
