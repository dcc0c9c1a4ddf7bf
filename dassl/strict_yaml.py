"""YAML files whose keys are each given once; nothing here needs torch, which takes seconds to import."""

from collections.abc import Hashable
from typing import IO, Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of several values of a key; somebody who wrote two meant both, or has forgotten one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice, in lines {seen[key.value]} and {line}: take one out")
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def load(text: str | IO) -> Any:
    """What a YAML text or open file holds. Raises yaml.YAMLError for what is no YAML, and for a key given twice."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("brackets or blocks are nested too deeply") from None
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, TypeError) as error:  # of a date that does not exist, a number without end, a list for a key
        raise yaml.YAMLError(str(error)) from None
