"""`FluxViTClipProcessor`: videos and sentences for `FluxViTClipModel`."""

from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import TextKwargs
from transformers.utils import logging

logger = logging.get_logger(__name__)


class FluxViTClipProcessor(ProcessorMixin):
    """A video processor and a tokenizer in one.

    Args:
        video_processor ([`FluxVideoProcessor`]): for the video tower.
        tokenizer ([`PreTrainedTokenizerBase`]): for the text tower.
        max_length (`int`, defaults to 32): tokens after which a sentence is cut, where a call says no other (32:
            InternVideo2-CLIP).
        fixed_length (`bool`, defaults to `False`): sentences are padded to `max_length`, not to the longest, whatever
            padding a call asks for. The text towers of SigLIP need it, with a `max_length` of 64, see
            [`FluxViTClipConfig.fixed_text_length`].
    """

    def __init__(self, video_processor, tokenizer, max_length: int = 32, fixed_length: bool = False):
        if not isinstance(max_length, int) or isinstance(max_length, bool) or max_length < 1:
            raise ValueError(f"max_length must be an integer >= 1, got {max_length!r}")
        super().__init__(video_processor, tokenizer)
        self.max_length = max_length
        self.fixed_length = fixed_length

    def __call__(
        self,
        videos=None,
        text: str | list[str] | None = None,
        *,
        videos_kwargs: dict | None = None,
        text_kwargs: dict | None = None,
        common_kwargs: dict | None = None,
        images_kwargs: dict | None = None,
        audio_kwargs: dict | None = None,
        **options,
    ) -> BatchFeature:
        """Prepares videos, sentences, or both.

        Args:
            videos: one or a list of what [`FluxVideoProcessor`] takes.
            text: a sentence or a list of them.
            videos_kwargs, text_kwargs, common_kwargs: options of the video processor, of the tokenizer, of both.
            images_kwargs, audio_kwargs: for callers that know no single processor, as sentence-transformers: there is
                nothing here to apply them to.
            **options: the same without saying of which; of both those that both know, as `return_tensors`.
                Sentences are padded to the longest, or as `fixed_length` says, and cut after `max_length` tokens, of
                which a warning tells.

        Returns:
            [`BatchFeature`] with `pixel_values_videos` and, if one is set, `token_budget`; `input_ids` and
            `attention_mask`.

        Raises:
            ValueError: there are no videos and no text, or an option has a wrong value.
            TypeError: an option is not known.
        """
        if videos is None and text is None:
            raise ValueError("give videos, text, or both")
        of_videos, of_text = self.video_processor.valid_kwargs.__annotations__, TextKwargs.__annotations__
        if unknown := [name for name in options if name not in of_videos and name not in of_text]:
            raise TypeError(
                f"{type(self).__name__} has no option {unknown[0]!r}; options are those of the video processor, "
                f"{', '.join(sorted(of_videos))}, and of the tokenizer, {', '.join(sorted(of_text))}"
            )
        data = {}
        if videos is not None:
            mine = {name: value for name, value in options.items() if name in of_videos}
            data |= self.video_processor(videos, **mine | (common_kwargs or {}) | (videos_kwargs or {}))
        if text is not None:
            mine = {name: value for name, value in options.items() if name in of_text}
            data |= self._tokens(text, **mine | (common_kwargs or {}) | (text_kwargs or {}))
        return BatchFeature(data)

    def _tokens(self, text: str | list[str], **options) -> dict:
        options = {
            "padding": True,
            "truncation": True,
            "max_length": self.max_length,
            "return_token_type_ids": False,
        } | options
        if self.fixed_length and options["padding"]:
            options["padding"] = "max_length"
        tokens = self.tokenizer(text, **options)
        if cut := sum(bool(encoding.overflowing) for encoding in tokens.encodings or []):
            logger.warning_once(
                f"{cut} of {len(tokens.encodings)} sentences were cut after max_length={options['max_length']} tokens; "
                "give a larger max_length, as far as the text model allows"
            )
        return dict(tokens)


__all__ = ["FluxViTClipProcessor"]
