"""Names inside Markdown, and code blocks that somebody left open."""

from __future__ import annotations

import pytest

from agent_mode.chat.markdown import closing_fence, escaped


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("💻 Coder", "💻 Coder"),
        ("a*b_c`d", r"a\*b\_c\`d"),
        ("[click](https://example.org)", r"[click]\(https://example.org)"),
        (r"\[x^2\]", r"\\[x^2\\]"),
        ("[x] (1)", "[x] (1)"),
        ("$5 and $6", r"\$5 and \$6"),
        ("<b>|~~x~~", r"\<b\>\|\~\~x\~\~"),
        ("Q&A", "Q&A"),
        ("&lt;b&gt;", "&lt;b&gt;"),
        ("two\nlines\t of it", "two lines of it"),
        ("", ""),
    ],
)
def test_a_name_stays_a_name(name: str, expected: str) -> None:
    assert escaped(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no code", ""),
        ("```python\nx", "```"),
        ("```python\nx\n```", ""),
        ("```python\nx\n```\n\n~~~~\ny", "~~~~"),
        ("````\n```\nx\n```", "````"),  # a shorter fence ends no longer one
        ("```\n~~~\nx", "```"),
        ("```\nx\n``` python", "```"),  # words behind it: no end
        ("- a list\n  ```\n  x", "  ```"),
        ("    ```\nindented code", ""),
        ("`` ` ``` inline", ""),
        ("```inline``` code", ""),
        ("```\r\nx", "```"),
    ],
)
def test_an_open_code_block_is_found(text: str, expected: str) -> None:
    assert closing_fence(text) == expected
    if expected:
        assert closing_fence(f"{text}\n{expected}") == ""
