"""What the benchmark commands measure with: files, peers, alternating repeats, and the report made of their JSON."""
