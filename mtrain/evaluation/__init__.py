"""How good translations are: metrics, comparison, quality by length."""
