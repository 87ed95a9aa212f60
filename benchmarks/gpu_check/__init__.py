"""All that a GPU must show, in one program: ``python -m benchmarks.gpu_check``."""
