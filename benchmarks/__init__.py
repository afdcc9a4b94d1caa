"""Speed of this project, as ratios of medians of interleaved runs: `python -m benchmarks`."""
