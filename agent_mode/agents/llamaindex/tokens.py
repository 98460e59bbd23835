"""How many tokens a text has, about: LlamaIndex's own tokenizer may have to be downloaded first."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
"""In English text; other scripts have more bytes and more tokens per letter."""


def count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN + 1


class Tokenizer:
    """Counts only: its tokens are no model's."""

    def encode(self, text: str) -> list[int]:
        return [0] * count(text)
