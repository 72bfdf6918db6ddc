"""Hugging Face's layout: export of Transformers, checked with `transformers`."""

from mtrain.exchange.huggingface.format import HuggingFaceFormat

__all__ = ["HuggingFaceFormat"]
