"""Uploading a checkpoint folder to the Hub, with its model card."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from math import ceil
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import get_session, httpx
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

from flux_hf.checkpoints import check_weights, checkpoint_path, reading_weights
from flux_hf.files import read_json
from flux_hf.hub.model_card import Base, build_model_card, card_budgets, is_hub_id, read_evaluation
from flux_hf.latency import forward_latency
from flux_hf.options.checkpoints import PushOptions
from flux_hf.options.recipes import read_recipe
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.progress_bars import no_bars_for_folders

PROCESSORS = ("video_preprocessor_config.json", "processor_config.json")
"""Where the processor is: of a video model, and of a dual encoder."""
UPLOADED = ("config.json", *PROCESSORS, "*.safetensors", "*.safetensors.index.json", "*.py", "conversion.json")
UPLOADED += ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.model", "sentence_bert_config.json")
XET_TIMEOUT = "HF_XET_CLIENT_READ_TIMEOUT"
"""Variable that hf_xet takes it from, when it is first used."""


@dataclass(frozen=True)
class Pushed:
    """Where a checkpoint went: address of the commit, names of the files in it and of those in the folder left out."""

    url: str
    files: list[str]
    left_out: list[str]


def push(options: PushOptions) -> Pushed:
    """Upload in one commit. After an interruption call it again: large files that arrived are not sent again.

    Raises:
        ValueError: the folder lacks files, or evaluations are given and it holds no classifier; no or a wrong token;
            the repository is not ours, or has another visibility; the Hub cannot be reached, is silent for longer than
            `options.timeout`, or an upload is cut, each time that it is tried.
    """
    if not options.timeout > 0:
        raise ValueError(f"timeout must be a number of seconds > 0, got {options.timeout}")
    if options.repo_id.count("/") != 1:
        raise ValueError(f"repo_id must be user/name, got {options.repo_id!r}")
    folder = Path(checkpoint_path(options.checkpoint))
    names = _files(folder)
    uploaded = [name for name in names if any(fnmatch(name, pattern) for pattern in UPLOADED)]
    is_classifier = _check_card(folder, options)
    api = HfApi(library_name="flux_hf")
    with _refusals(api, options), _timeout(options.timeout):
        api.whoami()
    card = _card(folder, options, is_classifier)
    with _refusals(api, options), _timeout(options.timeout):
        repo_id = _repository(api, options)
        if options.revision:
            api.create_branch(repo_id, branch=options.revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, folder / name) for name in uploaded),
                CommitOperationAdd("README.md", card.encode()),
            ],
            commit_message=options.commit_message,
            revision=options.revision,
        )
    left_out = sorted(set(names) - set(uploaded) - {"README.md"})
    return Pushed(commit.commit_url, [*uploaded, "README.md"], left_out)


@contextmanager
def _refusals(api: HfApi, options: PushOptions) -> Iterator[None]:
    """Says what the Hub, or the client on its behalf, does not accept."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ValueError("no access token: run `hf auth login`, or set the variable HF_TOKEN") from error
    except HFValidationError as error:
        raise ValueError(f"repo_id {options.repo_id!r}: {error}") from error
    except HfHubHTTPError as error:
        raise ValueError(f"the Hub refused {options.repo_id}: {_reason(error)}") from error
    except httpx.TimeoutException as error:
        reason = f"no answer in {options.timeout:g} s (--timeout)"
        raise ValueError(f"cannot reach the Hub at {api.endpoint}: {reason}; run the command again") from error
    except httpx.HTTPError as error:
        raise ValueError(f"cannot reach the Hub at {api.endpoint}: {_said(error)}; run the command again") from error
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # of huggingface_hub and hf_xet: an upload failed
        reason = _said(error) if error.__cause__ is None else f"{_said(error)}: {_said(error.__cause__)}"
        raise ValueError(f"the upload to {api.endpoint} failed: {reason}; run the command again") from error


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """For every answer, and for every part of a body that is sent; huggingface_hub waits for ever, hf_xet 5 minutes."""
    session = get_session()
    before, session.timeout = session.timeout, seconds
    chosen = XET_TIMEOUT not in os.environ
    if chosen:
        os.environ[XET_TIMEOUT] = f"{ceil(seconds)}s"
    try:
        yield
    finally:
        session.timeout = before
        if chosen:
            del os.environ[XET_TIMEOUT]


def _said(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"checkpoint {folder} is not a folder")
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    processor = PROCESSORS[1] if PROCESSORS[1] in names else PROCESSORS[0]
    tokenizer = ["tokenizer*"] if processor == PROCESSORS[1] else []
    required = ["config.json", processor, *tokenizer, "*.safetensors", *_code(folder)]
    if missing := [pattern for pattern in required if not any(fnmatch(name, pattern) for name in names)]:
        raise ValueError(
            f"checkpoint {folder} lacks {', '.join(missing)}; save the model and the processor there with flux_hf"
        )
    return names


def _code(folder: Path) -> list[str]:
    """The files of the classes that the configurations in the folder name, for use without flux_hf."""
    paths = [folder / name for name in ("config.json", *PROCESSORS)]
    configurations = [read_json(path) for path in paths if path.is_file()]
    classes = [named for each in configurations for named in each.get("auto_map", {}).values()]
    return sorted(
        {f"{named.partition('.')[0]}.py" for named in classes if isinstance(named, str) and "--" not in named}
    )


def _check_card(folder: Path, options: PushOptions) -> bool:
    """Whether the folder holds a classifier; raises ValueError where the card cannot be what the options ask for."""
    if options.keep_readme and not (folder / "README.md").is_file():
        raise ValueError(f"keep_readme: {folder} has no README.md")
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or []
    is_classifier = any(name.endswith("ForVideoClassification") for name in architectures)
    if options.evaluations and not is_classifier and not options.keep_readme:
        held = ", ".join(architectures)
        raise ValueError(f"evaluations: {folder} holds no classifier but {held}; leave them out, or fine-tune it first")
    return is_classifier


def _card(folder: Path, options: PushOptions, is_classifier: bool) -> str:
    if options.keep_readme:
        return (folder / "README.md").read_text(encoding="utf-8")
    with no_bars_for_folders(str(folder)), reading_weights(folder):
        model = load_video_classifier(folder) if is_classifier else AutoModel.from_pretrained(folder).eval()
        check_weights(model, folder)
        if is_classifier:
            processor = load_video_processor(folder, model)
        else:
            auto = AutoProcessor if (folder / PROCESSORS[1]).is_file() else AutoVideoProcessor
            processor = auto.from_pretrained(folder)
    check_saved(folder, model, processor)
    recipe = read_recipe(options.recipe) if options.recipe else {}
    timed = (model.vision_model, processor.video_processor) if hasattr(model, "vision_model") else (model, processor)
    card = build_model_card(
        folder,
        options.repo_id,
        model,
        processor,
        evaluations=[read_evaluation(path) for path in options.evaluations],
        recipe=recipe,
        latency=forward_latency(*timed, card_budgets(*timed)) if options.measure_latency else None,
        base=_base(folder, recipe.get("model")),
    )
    return str(card)


def check_saved(folder: Path, model, processor) -> None:
    """Raises ValueError where the folder holds other classes than the card is about, which were made while loading."""
    held = read_json(folder / "config.json").get("model_type")
    if held != type(model.config).model_type:
        raise ValueError(f"{folder} holds a {held} without token selection: call enable_flux on the model and save it")
    if held == "fluxvit_clip":
        return
    settings = read_json(folder / PROCESSORS[0])
    if settings.get("video_processor_type") != type(processor).__name__:
        raise ValueError(
            f"{folder} holds a {settings.get('video_processor_type')}: save FluxVideoProcessor.for_model(model) there"
        )


def _base(folder: Path, model: str | None) -> Base:
    """What a checkpoint was made from: the recipe's model, else what the card in the folder says; with the licence that
    the card of that names."""
    readme = folder / "README.md"
    said = ModelCard.load(readme).data.get("base_model") if readme.is_file() else None
    names = [model, *(said if isinstance(said, list) else [said])]
    name = next((name for name in names if is_hub_id(name)), None)
    if name is None:
        return Base()
    try:
        return Base(name, ModelCard.load(name).data.get("license"))
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError):  # no card, or none that can be reached or read
        return Base(name)


def _repository(api: HfApi, options: PushOptions) -> str:
    repo_id = api.create_repo(options.repo_id, private=options.private, exist_ok=True).repo_id
    private = api.repo_info(repo_id).private
    if options.private is not None and private != options.private:
        has = "private" if private else "public"
        raise ValueError(f"{repo_id} exists and is {has}: change that in its settings, or leave the option private out")
    return repo_id


def _reason(error: HfHubHTTPError) -> str:
    if error.response is not None and error.response.status_code == 401:
        return "it does not know the access token (from HF_TOKEN or `hf auth login`); make one that may write"
    return error.server_message or str(error).splitlines()[0]
