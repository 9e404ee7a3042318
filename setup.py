"""What is packaged and what it depends on; everything else about the project stands in pyproject.toml."""

from setuptools import find_packages, setup

MAPPED_FOLDERS = {
    "flux_hf.modeling": "modeling",
    "flux_hf.processing": "processing",
    "flux_hf.scripts": "scripts",
}

# Lower bounds are the versions that the tests ran with.
DEPENDENCIES = [
    "torch>=2.14.1",
    "torchvision>=0.29.1",
    "transformers>=5.23.0",
    "accelerate>=1.15.0",
    "datasets>=5.2.0",
    "av>=18.1.0",
    "huggingface-hub>=2.4.0",
    "jinja2>=3.1.6",
    "evaluate>=0.4.6",
    "filelock>=4.2.11",
    "numpy>=2.4.6",
    "pillow>=13.0.0",
    "pyyaml>=6.0.3",
    "safetensors>=0.8.0",
    "tqdm>=4.70.1",
]

EXPORT = ["onnx>=1.23.2", "onnxruntime>=1.31.1", "onnxscript>=0.7.2"]
BENCHMARK = ["decord>=0.6.0", "opencv-python-headless>=5.0.0", "torchcodec>=0.17.0"]
PLOT = ["matplotlib>=3.11.2"]
LINT = ["ruff==0.17.6"]
TEST = [
    *PLOT,
    *EXPORT,
    "pytest>=9.2.0",
    "pytest-xdist>=3.8.0",
    "packaging>=26.3",
    "parameterized>=0.9.0",
    "psutil>=7.2.2",
    "scikit-learn>=1.9.1",
    "scikit-video>=1.1.11",
    "scipy>=1.17.1",
    "setuptools>=84.2.1",
]

setup(
    packages=[*find_packages(include=["flux_hf", "flux_hf.*"]), *MAPPED_FOLDERS],
    package_dir={"flux_hf": "flux_hf", **MAPPED_FOLDERS},
    package_data={"flux_hf": ["checkpoints/**/*", "hub/*.jinja"], "flux_hf.scripts": ["configs/**/*"]},
    install_requires=DEPENDENCIES,
    extras_require={
        "export": EXPORT,
        "benchmark": BENCHMARK,
        "plot": PLOT,
        "lint": LINT,
        "test": TEST,
        "dev": [*PLOT, *LINT, *TEST],
    },
)
