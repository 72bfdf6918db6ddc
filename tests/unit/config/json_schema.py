"""A validator of JSON Schema, draft 2020-12, for the keywords that the schema of mtrain uses.

Independent of pydantic. Fails on a keyword that it does not know.
"""

import math
import re
from typing import Any

NO_RULES = {"$schema", "$defs", "title", "description", "default"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


class Validator:
    """Tells whether values meet a schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.definitions = schema["$defs"]
        self.schema = schema

    def accepts(self, value: Any) -> bool:
        """Tell whether a value meets the schema."""
        return self._meets(self.schema, value)

    def _meets(self, node: dict[str, Any], value: Any) -> bool:
        return all(self._holds(keyword, node, value) for keyword in node.keys() - NO_RULES)

    def _holds(self, keyword: str, node: dict[str, Any], value: Any) -> bool:
        """Tell whether a value meets one keyword; most apply to one type of value only."""
        rule = node[keyword]
        if keyword == "$ref":
            return self._meets(self.definitions[rule.removeprefix("#/$defs/")], value)
        if keyword in ("oneOf", "anyOf"):
            number = sum(self._meets(choice, value) for choice in rule)
            return number == 1 if keyword == "oneOf" else number > 0
        if keyword in ("const", "enum"):
            return value in ([rule] if keyword == "const" else rule)
        if keyword == "type":
            return is_of_type(value, rule)
        if keyword == "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        if keyword in ("items", "prefixItems", "minItems", "maxItems"):
            return (
                not isinstance(value, list)
                or {
                    "items": lambda: all(self._meets(rule, item) for item in value),
                    "prefixItems": lambda: all(map(self._meets, rule, value)),
                    "minItems": lambda: len(value) >= rule,
                    "maxItems": lambda: len(value) <= rule,
                }[keyword]()
            )
        if keyword in ("properties", "patternProperties", "additionalProperties", "required"):
            return not isinstance(value, dict) or self._holds_for_keys(keyword, node, value)
        meets = {
            "minimum": lambda: value >= rule,
            "maximum": lambda: value <= rule,
            "exclusiveMinimum": lambda: value > rule,
            "exclusiveMaximum": lambda: value < rule,
        }[keyword]
        return not is_of_type(value, "number") or meets()

    def _holds_for_keys(self, keyword: str, node: dict[str, Any], value: dict[str, Any]) -> bool:
        named, patterns = node.get("properties", {}), node.get("patternProperties", {})
        if keyword == "required":
            return set(node["required"]) <= value.keys()
        if keyword == "properties":
            return all(self._meets(named[key], value[key]) for key in named.keys() & value.keys())
        matching = {key: [rule for pattern, rule in patterns.items() if re.search(pattern, key)]
                    for key in value}  # fmt: skip
        if keyword == "patternProperties":
            return all(self._meets(rule, value[key]) for key in value for rule in matching[key])
        others = [value[key] for key in value if key not in named and not matching[key]]
        rule = node["additionalProperties"]
        return not others if rule is False else all(self._meets(rule, other) for other in others)


def is_of_type(value: Any, kind: str) -> bool:
    """Tell whether a value has a type of JSON Schema: 2.0 is an integer, true is no number."""
    if kind in ("integer", "number"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and (kind == "number" or value == int(value))
    return isinstance(value, TYPES[kind])
