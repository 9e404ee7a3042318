"""`FluxVideoClassificationPipeline`: the stock video-classification pipeline with a token budget for every call."""

import os
from collections.abc import Sized
from types import SimpleNamespace

import torch
from torch.utils.data import DataLoader
from transformers import VideoClassificationPipeline
from transformers.dynamic_module_utils import custom_object_save
from transformers.image_processing_utils import BatchFeature
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .grid_fluxvit import AUTO
from .views_fluxvit import Views, check_processor, read_views

TASK = "flux-video-classification"
"""Name under which a saved pipeline is found again. Not the stock task's: that would make the stock pipeline refuse the
checkpoint without `trust_remote_code=True`."""


class FluxVideoClassificationPipeline(VideoClassificationPipeline):
    """Classifies videos at a token budget that each call may choose, over several views of each video.

    Make one with `FluxVideoClassificationPipeline(model=model, video_processor=processor)` or with
    `pipeline("video-classification", model=..., pipeline_class=FluxVideoClassificationPipeline)`. What its
    `save_pretrained` wrote also loads with `pipeline("flux-video-classification", model=..., trust_remote_code=True)`.

    A call takes whatever the video processor takes: path, URL, bytes, binary file object, `{"path", "bytes"}`, array of
    frames; or a list, generator or data set of them, with `batch_size` in batches of videos of any length and size. It
    answers like the stock pipeline: a list of {"score", "label"} per video, best first.

    Options of a call, or at construction for all calls, beside `top_k`, `function_to_apply` and `num_frames`:
        token_budget (`int` or `"auto"`): tokens to keep, which also chooses the grid; "auto": for every video the
            smallest budget that is sure enough, by the mean over its views. Default: the processor's.
        num_clips (`int`, defaults to 1): clips per video, which take different frames of the same segments.
        num_crops (`int`, defaults to 1): crops along the longer side, evenly; 1 is the middle.

    Views are those of `flux_hf.evaluation`, see `Views`. Scores are the mean over the views of softmax (or what
    `function_to_apply` says). The paper uses 4 clips x 3 crops.
    """

    saved_task = TASK
    saved_model_class = "AutoModelForVideoClassification"

    def _sanitize_parameters(self, token_budget=None, num_clips=None, num_crops=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        for name, value in (("token_budget", token_budget), ("num_clips", num_clips), ("num_crops", num_crops)):
            if value is not None:
                auto = name == "token_budget" and isinstance(value, str) and value == AUTO
                if not auto and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                    also = f' or "{AUTO}"' if name == "token_budget" else ""
                    raise ValueError(f"{name} must be an integer >= 1{also}, got {value!r}")
                preprocess[name] = value
        return preprocess, forward, postprocess

    def preprocess(self, video, num_frames=None, frame_sampling_rate=1, token_budget=None, num_clips=1, num_crops=1):
        """One video as (1, views, frames, channels, height, width), with the budget if there is one."""
        if frame_sampling_rate != 1:
            raise ValueError("frame_sampling_rate has no effect on sparse sampling; leave it at 1")
        num_frames = num_frames or getattr(self.model.config, "num_frames", None)
        if num_frames == self.video_processor.model_frames:
            num_frames = None
        options = {"token_budget": token_budget, "return_tensors": "pt"}
        if num_clips == num_crops == 1:
            inputs = self.video_processor(video, num_frames=num_frames, do_sample_frames=True, **options)
            inputs["pixel_values_videos"] = inputs["pixel_values_videos"][None]
            return inputs.to(self.dtype)
        views, budget = Views(num_clips, num_crops), token_budget or self.video_processor.token_budget
        check_processor(self.video_processor, views)
        (framing,), pixels, _ = read_views(video, self.video_processor, [(budget, None)], views, num_frames=num_frames)
        inputs = {"pixel_values_videos": pixels[framing][None]} | ({} if budget is None else {"token_budget": budget})
        return BatchFeature(inputs).to(self.dtype)

    def _forward(self, model_inputs):
        videos = model_inputs["pixel_values_videos"]
        budget = model_inputs.get("token_budget")
        together = {"num_views": videos.shape[1]} if isinstance(budget, str) else {}
        output = self.model(videos.flatten(0, 1), token_budget=budget, **together)
        return {"logits": output.logits.unflatten(0, videos.shape[:2])}

    def postprocess(self, model_outputs, top_k=5, function_to_apply=None):
        """Logits (1, views, classes) -> [{"score", "label"}, ...]"""
        by_problem = {"regression": "none", "multi_label_classification": "sigmoid"}
        function = function_to_apply or by_problem.get(self.model.config.problem_type, "softmax")
        mean = SimpleNamespace(logits=mean_of_views(model_outputs["logits"][0], function)[None])
        return super().postprocess(mean, top_k=top_k, function_to_apply="none")

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """As in every pipeline; the stock one cannot batch for a model that has only a video processor."""
        if batch_size == 1:
            return super().get_iterator(
                inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
            )
        if isinstance(inputs, Sized):
            videos = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            videos, num_workers = PipelineIterator(inputs, self.preprocess, preprocess_params), min(num_workers, 1)
        loader = DataLoader(videos, num_workers=num_workers, batch_size=batch_size, collate_fn=_batch)
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def save_pretrained(self, save_directory, **kwargs):
        """Save model, video processor and this pipeline's source file, so that it can be found again by its task."""
        config = self.model.config
        before = getattr(config, "custom_pipelines", {})
        implementation = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        config.custom_pipelines = {self.saved_task: {"impl": implementation, "pt": [self.saved_model_class]}}
        os.makedirs(save_directory, exist_ok=True)
        custom_object_save(self, save_directory)
        try:
            self.model.save_pretrained(save_directory, **kwargs)
        finally:
            config.custom_pipelines = before
        (self.processor or self.video_processor).save_pretrained(save_directory, **kwargs)


def mean_of_views(logits: torch.Tensor, function: str) -> torch.Tensor:
    """Scores (classes,) of one video's logits (views, classes): "softmax", "sigmoid" or "none" of each view."""
    views = logits.float()
    return {"softmax": views.softmax(-1), "sigmoid": views.sigmoid(), "none": views}[function].mean(0)


def _batch(items: list):
    """Stack preprocessed videos; those that came out on different grids cannot share a batch."""
    shapes = sorted({tuple(item["pixel_values_videos"].shape[1:]) for item in items})
    if len(shapes) > 1:
        raise ValueError(
            f"videos of one batch came out in different shapes (views, frames, channels, height, width): "
            f"{', '.join(map(str, shapes))}; use batch_size=1, or a processor that crops and samples to one grid"
        )
    batch = items[0]
    batch["pixel_values_videos"] = torch.cat([item["pixel_values_videos"] for item in items])
    return batch


__all__ = ["FluxVideoClassificationPipeline"]
