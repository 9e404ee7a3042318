"""Options of the commands that turn one checkpoint into another thing."""

from dataclasses import dataclass, field


@dataclass
class ConvertOptions:
    """What to convert into what."""

    checkpoint: str = field(
        metadata={"help": "A .pth or .safetensors file: FluxViT, InternVideo2 (distilled), UMT, VideoMAE."}
    )
    output_dir: str = field(metadata={"help": "Folder to write."})
    label_names: str | None = field(
        default=None, metadata={"help": "Class names: text file with one per line, or JSON."}
    )
    label_dataset: str | None = field(
        default=None,
        metadata={"help": "Data set whose column `label` names the classes: Hub id, or folder (its split train)."},
    )
    source_label_names: str | None = field(
        default=None,
        metadata={
            "help": "Names of all classes of the file (710); the classifiers keep those of the label names (400)."
        },
    )
    num_attention_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of a layer. Default: width / 64."}
    )
    pooler_num_attention_heads: int = field(default=16, metadata={"help": "Heads of the pooling attention."})
    hidden_act: str | None = field(
        default=None,
        metadata={
            "help": "MLP activation. Default: what the weights were trained with, whatever model_config says: "
            "gelu_pytorch_tanh for FluxViT and InternVideo2, gelu for other ViTs."
        },
    )
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "Configuration to fit another ViT's weights to: a name (fluxvit_small) or a JSON file. Default: "
            "the sizes of the tensors."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the weights that another ViT's file does not hold."})


@dataclass
class ExportOptions:
    """What to export for which input."""

    checkpoint: str = field(metadata={"help": "Folder, Hub id, or default: the one in the package."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    token_budget: int | None = field(
        default=None, metadata={"help": "Budget built in. Default: the processor's, or the model's."}
    )
    int8: bool = field(default=False, metadata={"help": "Also write model_int8.onnx, quantised dynamically for CPUs."})


@dataclass
class PushOptions:
    """What to upload where. The access token comes from `hf auth login` or the variable HF_TOKEN, never from here."""

    checkpoint: str = field(metadata={"help": "Folder of a saved model and processor."})
    repo_id: str = field(metadata={"help": "Name on the Hub: user/name."})
    revision: str | None = field(default=None, metadata={"help": "Branch, created if it is not there. Default: main."})
    private: bool | None = field(default=None, metadata={"help": "Visibility of a new repository. Default: public."})
    commit_message: str = field(default="Upload checkpoint", metadata={"help": "Message of the commit."})
    evaluations: list[str] = field(default_factory=list, metadata={"help": "JSON files of flux-hf evaluate."})
    recipe: str | None = field(
        default=None, metadata={"help": "Recipe that the training was started with, a name or a YAML file."}
    )
    measure_latency: bool = field(default=False, metadata={"help": "Time the model here, for the card."})
    keep_readme: bool = field(default=False, metadata={"help": "Upload the folder's README.md, not a generated card."})
    timeout: float = field(
        default=60.0,
        metadata={"help": "Seconds without a word from the Hub; an upload is tried again for some minutes."},
    )
