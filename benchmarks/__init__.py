"""How fast it is, as ratios of medians of interleaved runs: `python -m benchmarks`."""
