"""XLA flags with which a CPU program compiles in about a quarter of the time, for tests: they compile much and compute
little."""

from importlib.metadata import version

COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
# A fusion is emitted through MLIR by default, which takes two thirds of the compile time of jaxlib 0.10. Later versions
# have no other way, and end the process for a flag that they do not know.
if version("jaxlib").startswith("0.10."):
    COMPILE_FAST += " --xla_cpu_use_fusion_emitters=false"
