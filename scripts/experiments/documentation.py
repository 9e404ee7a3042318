"""Write the tables of README, docs and the model card from the results of benchmarks and experiments.

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`; whatever is between them is replaced.

python scripts/experiments/documentation.py
"""

import re
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_text
from flux_hf.scripts.benchmarks import report as benchmarks
from flux_hf.scripts.experiments.any_model import report as any_model
from flux_hf.scripts.experiments.augmentations import kept_share
from flux_hf.scripts.experiments.captions import report as captions
from flux_hf.scripts.experiments.default_checkpoint import report as default_checkpoint
from flux_hf.scripts.experiments.headline import report as headline
from flux_hf.scripts.experiments.manipulation_clips import report as manipulation_clips
from flux_hf.scripts.experiments.own_clips import report as own_clips
from flux_hf.scripts.experiments.pretraining import comparison as pretraining
from flux_hf.scripts.experiments.surveillance_fights import report as surveillance_fights

COMMAND = "scripts/experiments/documentation.py"
ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def pages() -> list[Path]:
    """README, docs, the card of the default checkpoint, and the pages beside benchmarks and experiments."""
    card = ROOT / "flux_hf" / "checkpoints" / "fluxvit-nano" / "README.md"
    folders = (ROOT / "docs", ROOT / "scripts")
    return [ROOT / "README.md", *(page for folder in folders for page in sorted(folder.rglob("*.md"))), card]


def tables() -> dict[str, str]:
    """Every table there is, Markdown by name."""
    sources = (
        benchmarks,
        any_model,
        kept_share,
        captions,
        default_checkpoint,
        headline,
        manipulation_clips,
        own_clips,
        pretraining,
        surveillance_fights,
    )
    return {name: text for source in sources for name, text in source.tables().items()}


def current(page: str, made: dict[str, str]) -> str:
    """A page with its tables as they are in `made`.

    Raises:
        ValueError: it names a table that is not there, or one of its tables has no end.
    """
    names = re.findall(r"<!-- table: (\S+) -->", page)
    if unknown := [name for name in names if name not in made]:
        raise ValueError(f"no table is called {', '.join(unknown)}; there are {', '.join(made)}")
    if len(BLOCK.findall(page)) != len(names) or page.count("<!-- end -->") != len(names):
        raise ValueError("every <!-- table: NAME --> needs an <!-- end --> of its own")
    return BLOCK.sub(lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- end -->", page)


def main(argv: list[str] | None = None) -> None:
    made = tables()
    for path in pages():
        before = path.read_text(encoding="utf-8")
        try:
            after = current(before, made)
        except ValueError as error:
            raise ValueError(f"{path.relative_to(ROOT)}: {error}") from None
        if after != before:
            write_text(path, after)
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    run_command(COMMAND, main)
