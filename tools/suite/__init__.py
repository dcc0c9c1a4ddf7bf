"""The bundled suite: where its pictures come from, how they are split, and the rules for them."""
