"""What benchmarks/gpu.py measures against: whole training steps in PyTorch, as a user would write them today.

They need torch and transformers, and nothing of this package, so that a GPU machine runs them as they are.
"""
