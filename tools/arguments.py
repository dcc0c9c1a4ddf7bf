"""Command lines on which nothing that was written is dropped or misread. No torch here."""

import argparse
from collections.abc import Sequence
from typing import Any

PAIRS = "KEY VALUE"  # metavar of what takes empty values: to set a key to no text


class Parser(argparse.ArgumentParser):
    """argparse's, but for a flag that is given again, and for empty texts.

    There the last flag wins, and the first is dropped without a word. Here values add up where a
    flag takes several (--set A 1 --set B 2); another flag with a value is refused. An empty text,
    most likely of a shell variable that is not set, would often mean the working folder, or as
    much as no flag: it is refused, but for the values of `PAIRS`.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _Store)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        self.given.clear()
        return super().parse_known_args(args, namespace)

    def _get_values(self, action, arg_strings):
        # Of argparse: the one place where flags and others are seen before they are converted.
        if action.metavar != PAIRS and any(not text.strip() for text in arg_strings):
            name = "/".join(action.option_strings) or action.metavar or action.dest
            self.exit(
                2,
                f"error: {name} is empty: give a value, or leave it out (a shell variable without "
                "a value leaves an empty text)\n",
            )
        return super()._get_values(action, arg_strings)


class _Store(argparse._StoreAction):
    """Of argparse, as its documentation names no public class of actions that store."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, Parser)
        if option_string is not None and self.dest in parser.given:
            if self.nargs not in ("+", "*"):
                parser.error(f"{option_string} is given twice: give it once")
            values = [*getattr(namespace, self.dest), *(values or ())]
        parser.given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)
