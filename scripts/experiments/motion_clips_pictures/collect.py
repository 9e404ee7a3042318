"""Shrink the pictures that make.py needs to one small folder: collect.py --packages ROOT --output_dir pictures.

ROOT is where Debian's packages are unpacked (`dpkg-deb -x FILE ROOT` for each; the README names them), or / where they
are installed. The folder has `SPLIT/photographs/NUMBER.jpg` and `SPLIT/cutouts/NUMBER.webp`, these with transparency.
"""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from flux_hf.cli import run_command
from flux_hf.files import whole_folder
from flux_hf.options import parse_options

LISTS = Path(__file__).parent
PARTS = ("train", "train", "train", "train", "train", "validation", "test", "test")
"""Split of the pictures, by their place in the list, over and over."""
LONGEST = {"photographs": 640, "cutouts": 320}
"""Pixels of the longer side at most."""


@dataclass
class CollectOptions:
    packages: str = field(metadata={"help": "Folder that the packages are unpacked to."})
    output_dir: str = field(metadata={"help": "New folder to write."})


def collect(options: CollectOptions) -> str:
    """Write the folder; returns a sentence about what is in it.

    Raises:
        FileNotFoundError: a picture is not there; names it.
        FileExistsError: there is something at `output_dir`.
    """
    if Path(options.output_dir).exists():
        raise FileExistsError(f"--output_dir: {options.output_dir} is there already; name a new folder")
    number = 0
    with whole_folder(options.output_dir) as folder:
        for kind, longest in LONGEST.items():
            for place, name in enumerate((LISTS / f"{kind}.txt").read_text().split("\n")[:-1]):
                path = Path(options.packages, name)
                if not path.exists():
                    raise FileNotFoundError(f"{path} is missing; the README names the packages and their versions")
                target = folder / PARTS[place % len(PARTS)] / kind
                target.mkdir(parents=True, exist_ok=True)
                _shrink(path, longest, target / f"{place:03d}{'.jpg' if kind == 'photographs' else '.webp'}")
                number += 1
    size = sum(path.stat().st_size for path in Path(options.output_dir).rglob("*.*"))
    return f"{number} pictures, {size / 1e6:.1f} MB, in {options.output_dir}"


def _shrink(path: Path, longest: int, target: Path) -> None:
    with Image.open(path) as picture:
        if target.suffix == ".jpg":
            picture.draft("RGB", (2 * longest, 2 * longest))
        picture = picture.convert("RGB" if target.suffix == ".jpg" else "RGBA")
        if target.suffix == ".webp":
            picture = picture.crop(picture.getchannel("A").getbbox())
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        picture.save(target, quality=85)


def main(arguments=None):
    (options,) = parse_options(CollectOptions, arguments, __doc__)
    print(collect(options))


if __name__ == "__main__":
    run_command("scripts/experiments/motion_clips_pictures/collect.py", main)
