"""What the benchmark commands measure with: files, peers, alternating repeats."""
