"""`FluxViTClipProcessor`: videos and sentences for `FluxViTClipModel`."""

from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs, Unpack


class FluxViTClipProcessorKwargs(ProcessingKwargs, total=False):
    """Sentences are cut after 32 tokens, as InternVideo2-CLIP's are."""

    _defaults = {
        "text_kwargs": {
            "padding": True,
            "truncation": True,
            "max_length": 32,
            "return_token_type_ids": False,
        },
    }


class FluxViTClipProcessor(ProcessorMixin):
    """A video processor and a tokenizer in one.

    Args:
        video_processor ([`FluxVideoProcessor`]): for the video tower.
        tokenizer ([`PreTrainedTokenizerBase`]): for the text tower.
    """

    valid_processor_kwargs = FluxViTClipProcessorKwargs

    def __init__(self, video_processor, tokenizer):
        super().__init__(video_processor, tokenizer)

    def __call__(
        self,
        videos=None,
        text: str | list[str] | None = None,
        **kwargs: Unpack[FluxViTClipProcessorKwargs],
    ) -> BatchFeature:
        """Prepares videos, sentences, or both.

        Args:
            videos: one or a list of what [`FluxVideoProcessor`] takes.
            text: a sentence or a list of them.
            **kwargs: options of the video processor, as `token_budget`, and of the tokenizer, for this call. Default of
                the tokenizer's: padding to the longest sentence, cut after `max_length=32` tokens.

        Returns:
            [`BatchFeature`] with `pixel_values_videos` and, if one is set, `token_budget`; `input_ids` and
            `attention_mask`.
        """
        options = self._merge_kwargs(
            self.valid_processor_kwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs
        )
        if videos is None and text is None:
            raise ValueError("give videos, text, or both")
        data = {}
        if videos is not None:
            data |= self.video_processor(videos, **options["videos_kwargs"])
        if text is not None:
            data |= self.tokenizer(text, **options["text_kwargs"])
        return BatchFeature(data)


__all__ = ["FluxViTClipProcessor"]
