"""`FluxZeroShotVideoClassificationPipeline`: videos and classes that are named in the call."""

import torch

from .pipeline_fluxvit import FluxVideoClassificationPipeline, mean_of_views
from .prompt_templates_fluxvit import DEFAULT_TEMPLATE, embed_labels

SENTENCES_AT_ONCE = 256


class FluxZeroShotVideoClassificationPipeline(FluxVideoClassificationPipeline):
    """Says which of the classes that a call names a video shows, at a token budget that each call may choose.

    `pipeline("zero-shot-video-classification", model=...)` makes one, where flux_hf is imported. What its
    `save_pretrained` wrote also loads without, with `pipeline("flux-zero-shot-video-classification", model=...,
    trust_remote_code=True)`.

    A call takes the videos that [`FluxVideoClassificationPipeline`] takes and answers like transformers' zero-shot
    pipelines: a list of {"score", "label"} per video, best first, with all labels.

    Options of a call, or at construction for all calls:
        candidate_labels (`list[str]`): names of the classes. They are embedded once per call.
        hypothesis_template (`str` or `list[str]`, defaults to `"a video of {}"`): sentence that is made of a name; with
            several, or the name of a set as `"kinetics"` (`PROMPT_TEMPLATES`), the mean of them stands for the class.
        token_budget, num_clips, num_crops, num_frames, top_k: as of [`FluxVideoClassificationPipeline`]; the default of
            `top_k` is all labels.
        function_to_apply (`str`): to the raw logits. Default `"softmax"`, for a model with the sigmoid loss
            `"sigmoid"`.
    """

    _load_processor = True
    _load_video_processor = False
    _load_image_processor = False
    _load_tokenizer = False
    saved_task = "flux-zero-shot-video-classification"
    saved_model_class = "AutoModel"

    def __init__(self, *args, processor=None, video_processor=None, tokenizer=None, **kwargs):
        self.label_options = {}
        tokenizer = tokenizer or getattr(processor, "tokenizer", None)
        video_processor = video_processor or getattr(processor, "video_processor", None)
        if processor is None:
            raise ValueError("give a processor, which has a video processor and a tokenizer")
        super().__init__(*args, processor=processor, video_processor=video_processor, tokenizer=tokenizer, **kwargs)

    def check_model_type(self, supported_models):
        if not hasattr(self.model, "get_video_features"):
            raise ValueError(
                f"{type(self).__name__} needs a model that compares videos with texts, got {type(self.model).__name__}"
            )

    def _sanitize_parameters(self, candidate_labels=None, hypothesis_template=None, label_embeds=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if kwargs.get("function_to_apply") is None:  # before 5.19 transformers' own default comes instead
            postprocess.pop("function_to_apply", None)
        if label_embeds is not None:
            forward["label_embeds"] = label_embeds
        if hypothesis_template is not None:
            postprocess["hypothesis_template"] = hypothesis_template
        if candidate_labels is not None:
            postprocess["candidate_labels"] = _checked(candidate_labels)
        return preprocess, forward, postprocess

    def __call__(self, videos, candidate_labels=None, hypothesis_template=None, **kwargs):
        """Answers for one video or many; options as of the class.

        Raises:
            ValueError: no labels, labels that are no different strings, or a template without {}.
        """
        settings = self._postprocess_params
        labels = settings.get("candidate_labels") if candidate_labels is None else _checked(candidate_labels)
        if labels is None:
            raise ValueError("give candidate_labels, the names of the classes")
        template = hypothesis_template or settings.get("hypothesis_template", DEFAULT_TEMPLATE)
        embeds = embed_labels(self._embed_sentences, labels, template)
        return super().__call__(videos, candidate_labels=labels, label_embeds=embeds, **kwargs)

    def _embed_sentences(self, sentences: list[str]) -> torch.Tensor:
        found = []
        with torch.no_grad():
            for start in range(0, len(sentences), SENTENCES_AT_ONCE):
                inputs = self.processor(text=sentences[start : start + SENTENCES_AT_ONCE], return_tensors="pt")
                inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
                found.append(self.model.get_text_features(**inputs).pooler_output)
        return torch.cat(found)

    def _forward(self, model_inputs, label_embeds=None):
        videos = model_inputs["pixel_values_videos"]
        features = self.model.get_video_features(videos.flatten(0, 1), token_budget=model_inputs.get("token_budget"))
        logits = self.model.compare(features.pooler_output, label_embeds.to(self.device))
        return {"logits": logits.unflatten(0, videos.shape[:2])}

    def postprocess(
        self, model_outputs, candidate_labels=None, hypothesis_template=None, top_k=None, function_to_apply=None
    ):
        """Logits (1, views, labels) -> [{"score", "label"}, ...]"""
        function = function_to_apply or self.model.config.loss
        scores = mean_of_views(model_outputs["logits"][0], function).tolist()
        best = sorted(zip(scores, candidate_labels, strict=True), key=lambda pair: -pair[0])
        return [{"score": score, "label": label} for score, label in best[:top_k]]


def _checked(labels) -> list[str]:
    labels = labels if isinstance(labels, str) else list(labels)
    if (
        isinstance(labels, str)
        or not labels
        or not all(isinstance(label, str) and label.strip() for label in labels)
        or len({*labels}) < len(labels)
    ):
        raise ValueError(f"candidate_labels must be a list of different names, at least one, got {labels!r}")
    return labels


__all__ = ["FluxZeroShotVideoClassificationPipeline"]
