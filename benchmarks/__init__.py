"""Measurements of learnae: `python -m benchmarks.NAME`, each beside the target that it has to meet."""
