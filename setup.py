"""What is packaged and what it depends on; everything else about the project is in pyproject.toml."""

from setuptools import find_packages, setup

MAPPED_FOLDERS = {
    "flux_hf.modeling": "modeling",
    "flux_hf.processing": "processing",
    "flux_hf.scripts": "scripts",
}

# Lower bounds are the oldest versions that the tests pass with: `make test-oldest` installs exactly these.
DEPENDENCIES = [
    "torch>=2.7.0",
    "torchvision>=0.22.0",
    "transformers>=5.18.0",
    "accelerate>=1.14.0",
    "datasets>=4.0.0",
    "av>=17.1.0",
    "huggingface-hub>=1.31.0",
    "filelock",
    "fsspec>=2025.3.0",
    "jinja2>=3.1.0",
    "evaluate>=0.4.0",
    "numpy>=1.26.0",
    "pillow>=10.1.0",
    "psutil>=5.9.5",
    "pyarrow",
    "pyyaml>=6.0",
    "safetensors>=0.8.0",
    "tqdm",
]

EXPORT = ["onnx>=1.17.0", "onnxruntime>=1.20.0", "onnxscript>=0.7.0"]
BENCHMARK = ["decord>=0.6.0", "opencv-python-headless>=5.0.0", "openvino>=2026.4.1", "torchcodec>=0.17.0"]
TIMM = ["timm>=1.0.26"]
MANIPULATION = ["metaworld==3.1.1", "mujoco==3.3.0"]
FLOW = ["opencv-python-headless>=4.10.0.84", "scikit-learn>=1.3.2"]
RAY = ["ray[data]>=2.44.1"]
PLOT = ["matplotlib>=3.8.0"]
# Older versions of gradio load fonts and code from other hosts.
DEMO = ["gradio>=6.18.0"]
LINT = ["ruff==0.17.6"]
TEST = [
    *PLOT,
    *EXPORT,
    *TIMM,
    *DEMO,
    *FLOW,
    "pytest>=7.4.4",
    "pytest-xdist>=3.5.0",
    "filelock",
    "packaging",
    "parameterized>=0.9.0",
    "peft>=0.21.2",
    "scikit-video>=1.1.11",
    "scipy>=1.11.4",
    "selenium>=4.20.0",
    "sentence-transformers>=6.2.0",
    "setuptools>=77.0.3",
    "tokenizers",
]

setup(
    packages=[*find_packages(include=["flux_hf", "flux_hf.*"]), *MAPPED_FOLDERS],
    package_dir={"flux_hf": "flux_hf", **MAPPED_FOLDERS},
    package_data={"flux_hf": ["checkpoints/**/*", "hub/*.jinja", "demo/*.css"], "flux_hf.scripts": ["configs/**/*"]},
    install_requires=DEPENDENCIES,
    extras_require={
        "export": EXPORT,
        "benchmark": BENCHMARK,
        "plot": PLOT,
        "timm": TIMM,
        "demo": DEMO,
        "manipulation": MANIPULATION,
        "flow": FLOW,
        "ray": RAY,
        "lint": LINT,
        "test": TEST,
        "dev": [*PLOT, *LINT, *TEST],
    },
)
