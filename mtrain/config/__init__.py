"""A configuration as types, a file a section (run.py joins them), and its way in from YAML."""

from mtrain.config.load import load_config, parse_overrides, with_values
from mtrain.config.run import Config

__all__ = ["Config", "load_config", "parse_overrides", "with_values"]
