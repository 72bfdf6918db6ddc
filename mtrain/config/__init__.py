"""The configuration: typed sections, one file each, joined in run.py and loaded from YAML."""

from mtrain.config.load import load_config, parse_overrides, with_values
from mtrain.config.run import Config

__all__ = ["Config", "load_config", "parse_overrides", "with_values"]
