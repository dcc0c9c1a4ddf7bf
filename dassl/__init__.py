"""A small training engine behind the interface of Dassl, for today's torch. See docs/engine.md."""

from dassl import messages

__version__ = "1.0.0"

messages.install()
