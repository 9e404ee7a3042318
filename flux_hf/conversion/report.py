"""What became of every tensor of a converted checkpoint."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass
class ConversionReport:
    """Account of a conversion.

    Attributes:
        family: what the source was taken for: "FluxViT", "InternVideo2" or "ViT" (UMT, VideoMAE).
        loaded: our names of tensors taken over unchanged (but for the layout that our modules need).
        resized: our names of tensors that were fitted to another size -> how.
        new: our names of tensors the source has nothing for -> the values they start from.
        folded: names of source tensors that are in others of ours now -> in which.
        unused: names of source tensors that have no place in our model -> why.
        settings: settings of the config that the weights changed -> from what to what.
    """

    family: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict:
        return asdict(self)

    def text(self) -> str:
        """A few lines for people; tensors that differ only in numbers share a line."""
        lines = [f"source taken for: {self.family}", f"loaded: {len(self.loaded)} tensors"]
        lines += [f"{name}: {change}" for name, change in self.settings.items()]
        titled = {"resized": self.resized, "new": self.new, "folded": self.folded, "not used": self.unused}
        for title, entries in titled.items():
            lines.append(f"{title}: {len(entries)} tensors")
            groups = Counter((re.sub(r"\d+", "*", name), note) for name, note in entries.items())
            lines += [f"  {name}{f' ({count})' if count > 1 else ''}: {note}" for (name, note), count in groups.items()]
        return "\n".join(lines)
