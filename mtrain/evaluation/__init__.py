"""Evaluation: metrics, paired tests, quality by length, word alignment, attention plots."""
