"""YAML files whose keys are each given once; nothing here needs torch, which takes seconds to
import.
"""

import math
from ast import literal_eval
from collections.abc import Hashable
from dataclasses import dataclass
from typing import IO, Any

import yaml

MERGE = "tag:yaml.org,2002:merge"  # of the key <<


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of several values of a key; somebody who wrote two meant both, or has
    forgotten one.
    """

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # Here every mapping is as it was written; constructors lay merged keys (<<) into it.
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[bool, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            merge, line = key.tag == MERGE, key.start_mark.line + 1
            if first := seen.get((merge, key.value)):
                remedy = "write one, <<: [*first, *second]" if merge else "take one out"
                raise yaml.composer.ComposerError(
                    None,
                    None,
                    f"'{key.value}' is given twice, in lines {first} and {line}: {remedy}",
                )
            seen[merge, key.value] = line
        return node


@dataclass(frozen=True)
class Scalar:
    """What YAML takes for a number, truth value, date or nothing, and the text that stands in the
    file: 1_0 is 10, and no is False.
    """

    value: Any
    text: str

    @property
    def misread(self) -> bool:
        """Whether it is a number that YAML reads otherwise than people: 010 is 8 there, and 1:30 is
        90.
        """
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            return False
        try:
            return literal_eval(self.text) != self.value
        except (ValueError, SyntaxError):
            return True


class _TextLoader(_Loader):
    """A reader who expects text wants `no`, 010 or 12:30 as they were written; what is meant is not
    known here.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep)
        return {
            key.text if isinstance(key, Scalar) else key: value for key, value in mapping.items()
        }


def _with_text(loader: _TextLoader, node: yaml.ScalarNode) -> Scalar:
    return Scalar(_Loader.yaml_constructors[node.tag](loader, node), node.value)


for _kind in ("null", "bool", "int", "float", "timestamp"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _with_text)


def load(text: str | IO, scalars: bool = False) -> Any:
    """Load a YAML text or open file; with `scalars`, every value that is not text is a Scalar.

    Raises yaml.YAMLError for invalid YAML and for a key given twice.
    """
    try:
        return yaml.load(text, _TextLoader if scalars else _Loader)
    except RecursionError:
        raise yaml.YAMLError("brackets or blocks are nested too deeply") from None
    except UnicodeDecodeError:
        raise
    except (
        ValueError,
        OverflowError,
        TypeError,
    ) as error:  # of a date that does not exist, a number without end, a list for a key
        raise yaml.YAMLError(str(error)) from None
