"""Who is measured. Each module is run in a process of its own, as tests/bench/contestant.py says."""
