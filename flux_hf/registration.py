"""Make the model types ``fluxvit`` and ``fluxvit_clip`` known to the Auto classes of Transformers."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder

ZERO_SHOT_TASK = "zero-shot-video-classification"


def register() -> None:
    """Register configuration, models and video processor; calling it again changes nothing.

    Besides the lookup by model type, every class is marked for saving: ``save_pretrained`` then puts its source file
    beside the weights, and the saved folder also loads with ``trust_remote_code=True`` where flux_hf is not installed.
    Every process needs the mark: a checkpoint that is loaded and saved again without it keeps its ``auto_map`` but
    loses the files that this points to.
    """
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForPreTraining,
        AutoModelForVideoClassification,
        AutoProcessor,
        AutoVideoProcessor,
    )

    from flux_hf.modeling import flux_timesformer, flux_videomae, flux_vivit, flux_vjepa2
    from flux_hf.modeling.configuration_flux_timm import FluxTimmConfig
    from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
    from flux_hf.modeling.configuration_fluxvit_clip import FluxViTClipConfig
    from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification, FluxViTModel
    from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
    from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
    from flux_hf.plugin.adapters import register_flux_adapter
    from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor
    from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

    AutoConfig.register(FluxViTConfig.model_type, FluxViTConfig, exist_ok=True)
    AutoModel.register(FluxViTConfig, FluxViTModel, exist_ok=True)
    AutoModelForVideoClassification.register(FluxViTConfig, FluxViTForVideoClassification, exist_ok=True)
    AutoModelForPreTraining.register(FluxViTConfig, FluxViTForPreTraining, exist_ok=True)
    AutoVideoProcessor.register(FluxViTConfig, FluxVideoProcessor, exist_ok=True)
    AutoConfig.register(FluxViTClipConfig.model_type, FluxViTClipConfig, exist_ok=True)
    AutoModel.register(FluxViTClipConfig, FluxViTClipModel, exist_ok=True)
    AutoProcessor.register(FluxViTClipConfig, FluxViTClipProcessor, exist_ok=True)

    FluxViTConfig.register_for_auto_class("AutoConfig")
    FluxViTModel.register_for_auto_class("AutoModel")
    FluxViTForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")
    FluxViTForPreTraining.register_for_auto_class("AutoModelForPreTraining")
    FluxVideoProcessor.register_for_auto_class("AutoVideoProcessor")
    FluxViTClipConfig.register_for_auto_class("AutoConfig")
    FluxViTClipModel.register_for_auto_class("AutoModel")
    FluxViTClipProcessor.register_for_auto_class("AutoProcessor")
    for family in (flux_videomae, flux_vjepa2, flux_vivit, flux_timesformer):
        register_flux_adapter(family.CLASSES)
    # Loading this configuration registers its model, which needs timm.
    AutoConfig.register(FluxTimmConfig.model_type, FluxTimmConfig, exist_ok=True)
    AutoVideoProcessor.register(FluxTimmConfig, FluxVideoProcessor, exist_ok=True)
    FluxTimmConfig.register_for_auto_class("AutoConfig")


def register_pipeline() -> None:
    """Make `pipeline("zero-shot-video-classification")` known; calling it again changes nothing."""
    from transformers import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    if ZERO_SHOT_TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            ZERO_SHOT_TASK, _ZeroShotPipelineWhenAsked(), pt_model=AutoModel, type="multimodal"
        )


class _ZeroShotPipelineWhenAsked:
    """Stands for the pipeline's class, which is imported when it is asked for something: its file needs the module
    whose import ends with the registration."""

    @property
    def pipeline_class(self) -> type:
        from flux_hf.processing.zero_shot_pipeline_fluxvit import FluxZeroShotVideoClassificationPipeline

        return FluxZeroShotVideoClassificationPipeline

    def __call__(self, *args, **kwargs):
        return self.pipeline_class(*args, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self.pipeline_class, name)


def register_with_transformers() -> None:
    """Register now what Transformers has imported, the rest as the last act of its import.

    The Auto classes need torch, seconds of CPU time that `flux-hf NAME --help` does not have, and the pipelines much
    that a program without them does not need.
    """
    for module, then in (("transformers", register), ("transformers.pipelines", register_pipeline)):
        if module in sys.modules:
            then()
        else:
            sys.meta_path.insert(0, _AfterImport(module, then))


class _AfterImport(MetaPathFinder):
    """Finds a module as the other finders do, and has its loader call a function at the end."""

    def __init__(self, module: str, then: Callable[[], None]):
        self.module, self.then = module, then

    def find_spec(self, name, path=None, target=None):
        if name != self.module:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._then_register(spec.loader.exec_module)
        return spec

    def _then_register(self, exec_module):
        def exec_and_register(module):
            exec_module(module)
            self.then()
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        return exec_and_register
