"""What a run is made of, as types (schema.py), and the way in from YAML (load.py)."""

from mtrain.config.load import load_config, parse_overrides
from mtrain.config.schema import Config

__all__ = ["Config", "load_config", "parse_overrides"]
