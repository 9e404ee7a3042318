"""From a `.pth` file to a folder that the Auto classes load."""

from pathlib import Path

import torch
from datasets import load_dataset_builder
from huggingface_hub.utils.sha import sha_fileobj
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf.conversion.files import read_state_dict
from flux_hf.conversion.initialization import initialize_from_state_dict
from flux_hf.conversion.labels import select_classes
from flux_hf.conversion.official import convert_official_state_dict
from flux_hf.conversion.report import ConversionReport
from flux_hf.data import load_video_dataset, read_label_names
from flux_hf.files import whole_folder, write_json
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.options.checkpoints import ConvertOptions
from flux_hf.options.recipes import model_config_path
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

REPORT_FILE = "conversion.json"
_FLUX_MODULE = "gpe_proj.depthwise_conv.weight"
_CHECK_GRID = (4, 8)
_CHECK_BUDGET = 96


def convert(options: ConvertOptions) -> ConversionReport:
    """Convert, write model, processor and report to `options.output_dir`, and check what was written.

    A file with FluxViT's own modules has to be complete and comes out as the same function; any other ViT becomes a
    start for training. `conversion.json` in the folder holds the report.

    Raises:
        ValueError: on files, names or options that do not fit, naming them.
        RuntimeError: the written folder does not give the same outputs.
    """
    state_dict = read_state_dict(options.checkpoint)
    names = _label_names(options)
    if options.source_label_names:
        if names is None:
            raise ValueError("source_label_names needs label_names or label_dataset, the classes to keep")
        state_dict = select_classes(state_dict, read_label_names(options.source_label_names), names)
    torch.manual_seed(options.seed)
    model, report = _build(state_dict, options, dict(enumerate(names)) if names else None)
    processor = FluxVideoProcessor(patch_size=model.config.patch_size)

    folder = Path(options.output_dir)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        check_reload(model, processor, partial)
        source = {"file": Path(options.checkpoint).name, "sha256": _sha256(options.checkpoint)}
        write_json(partial / REPORT_FILE, {"source": source, **report.as_dict()})
    return report


@torch.no_grad()
def check_reload(model: FluxViTForVideoClassification, processor: FluxVideoProcessor, folder: Path) -> None:
    """Load `folder` through the Auto classes; raises RuntimeError unless it gives `model`'s logits, of every head, and
    `processor`'s settings."""
    again = AutoModelForVideoClassification.from_pretrained(folder).eval()
    frames, side = _CHECK_GRID[0], _CHECK_GRID[1] * model.config.patch_size
    shape = (1, frames, model.config.num_channels, side, side)
    video = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for head, budget in enumerate(model.config.head_token_budgets):
        expected = model(video, token_budget=_CHECK_BUDGET, head_index=head).logits
        found = again(video, token_budget=_CHECK_BUDGET, head_index=head).logits
        if not torch.allclose(found, expected, rtol=1e-5, atol=1e-5):
            difference = (found - expected).abs().max().item()
            raise RuntimeError(f"{folder}: after reloading, head {head} ({budget} tokens) differs by {difference:g}")
    saved = AutoVideoProcessor.from_pretrained(folder).to_dict()
    if changed := [name for name, value in processor.to_dict().items() if saved.get(name) != value]:
        raise RuntimeError(f"{folder}: after reloading, the processor differs in {', '.join(changed)}")


def _build(state_dict: dict, options: ConvertOptions, id2label: dict[int, str] | None):
    sizes = {
        "num_attention_heads": options.num_attention_heads,
        "pooler_num_attention_heads": options.pooler_num_attention_heads,
        "id2label": id2label,
    }
    if _FLUX_MODULE in state_dict:
        if options.model_config:
            raise ValueError("model_config is for files of other ViTs; this is a FluxViT and keeps its sizes")
        act = {"hidden_act": options.hidden_act} if options.hidden_act else {}
        model = convert_official_state_dict(state_dict, **sizes, **act)
        return model, ConversionReport("FluxViT", loaded=list(model.state_dict()))
    config = FluxViTConfig.from_json_file(model_config_path(options.model_config)) if options.model_config else None
    if config is not None and options.num_attention_heads:
        raise ValueError("num_attention_heads is in the model_config, change it there")
    return initialize_from_state_dict(state_dict, config=config, hidden_act=options.hidden_act, **sizes)


def _label_names(options: ConvertOptions) -> list[str] | None:
    if options.label_names and options.label_dataset:
        raise ValueError("label_names and label_dataset exclude each other, give one of them")
    if options.label_names:
        return read_label_names(options.label_names)
    if options.label_dataset is None:
        return None
    return _names_in(options.label_dataset)


def _names_in(dataset: str) -> list[str]:
    if Path(dataset).is_dir():
        return load_video_dataset(dataset, "train").features["label"].names
    label = (load_dataset_builder(dataset).info.features or {}).get("label")
    if not hasattr(label, "names"):
        raise ValueError(f"{dataset} declares no class names in a column `label`; give label_names, a text file")
    return label.names


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return sha_fileobj(file).hex()
