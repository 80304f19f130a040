"""Exact search, near-copies, thresholds and verdicts."""
