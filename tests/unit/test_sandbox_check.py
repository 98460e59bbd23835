"""What is said about an agent's code without running it, and that it agrees with what running it says."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent_mode.sandbox.check import CodeProblem, check
from agent_mode.sandbox.sandbox import Sandbox
from tests.sandboxes import run, tidy

GOOD = [
    "async def run(turn, tools, llm, call_agent, status):\n    yield turn.text",
    "def run(status, turn): return 1",
    "def run(): pass",
    "def run(*args, **kwargs): pass",
    "def run(turn, *, more=None, limit: int = 3): pass",
    "run = print",
    "run: object = lambda turn: 1",
    "def f(turn): pass\nrun = f",
    "(a, run) = (1, print)",
    "from agent import run",
    "from agent import main as run",
    "from agent import *",
    "try:\n    import x\nexcept ImportError:\n    def run(): pass",
    "if False:\n    pass\nelse:\n    async def run(turn): pass",
    "with open('/dev/null'):\n    def run(): pass",
    "match 1:\n    case 1:\n        def run(): pass",
    "def run(wrong): pass\ndef run(turn): pass",
    "@lambda f: lambda turn: 1\ndef run(anything): pass",
    r"x = '\d'" + "\ndef run(): pass",
]

BAD = [
    ("", [CodeProblem("There is no function “run”.", "Define", None, None)]),
    ("def main(): pass", [CodeProblem("There is no function “run”.", "Define", None, None)]),
    ("def f():\n    def run(): pass", [CodeProblem("There is no function “run”.", "Define", None, None)]),
    ("class A:\n    def run(self): pass", [CodeProblem("There is no function “run”.", "Define", None, None)]),
    ("x = run", [CodeProblem("There is no function “run”.", "Define", None, None)]),
    ("class run: pass", [CodeProblem("“run” is a class.", "Define", 1, 1)]),
    (
        "import x\nasync def run(prompt, turn, *, key):\n    pass",
        [
            CodeProblem("“run” asks for “prompt”.", "It can have `turn`, `tools`", 2, 15),
            CodeProblem("“run” asks for “key”.", "It can have `turn`, `tools`", 2, 32),
        ],
    ),
    ("def run(turn, /): pass", [CodeProblem("“run” takes “turn” by position only.", "Leave", 1, 9)]),
    ("async def run(:\n  pass", [CodeProblem("This is not Python: invalid syntax.", "Correct", 1, 15)]),
    ("def run():\n  x = (1,\n", [CodeProblem("This is not Python: '(' was never closed.", "Correct", 2, 7)]),
    (
        "def run():\n\tpass\n        pass",
        [CodeProblem("This is not Python: inconsistent", "Correct", 3, None)],
    ),
    ("return 1", [CodeProblem("This is not Python: 'return' outside function.", "Correct", 1, 1)]),
    ("def run():\n  await x", [CodeProblem("This is not Python: 'await' outside async", "Correct", 2, 3)]),
    (
        "async def run():\n  yield 1\n  return 2",
        [CodeProblem("This is not Python: 'return' with", "Correct", 3, 3)],
    ),
]


@pytest.mark.parametrize("code", GOOD, ids=range(len(GOOD)))
def test_nothing_wrong(code: str) -> None:
    assert check(code) == []


@pytest.mark.parametrize(("code", "expected"), BAD, ids=range(len(BAD)))
def test_problems(code: str, expected: list[CodeProblem]) -> None:
    found = check(code)
    assert len(found) == len(expected)
    for problem, wanted in zip(found, expected, strict=True):
        assert problem.message.startswith(wanted.message)
        assert problem.hint.startswith(wanted.hint)
        assert problem.line == wanted.line
        if wanted.column is not None:
            assert problem.column == wanted.column


@pytest.mark.parametrize(
    "code", ["x = '\0'", "(" * 100_000, "x = " + "-" * 500_000 + "1", "'\ud800'", "{" * 500]
)
def test_code_that_no_parser_takes_has_one_problem(code: str) -> None:
    (problem,) = check(code)
    assert "Python" in problem.message
    assert problem.hint


def test_a_problem_as_text() -> None:
    assert str(check("def run(a): pass")[0]) == "line 1, column 9: “run” asks for “a”."
    assert str(check("")[0]) == "There is no function “run”."


def test_nothing_is_executed(tmp_path: Path) -> None:
    assert check(f"open({str(tmp_path / 'file')!r}, 'w')\ndef run(): pass") == []
    assert not list(tmp_path.iterdir())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    async with tidy(tmp_path_factory.mktemp("runs")) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "code", [code for code, _ in BAD if "class run" not in code], ids=range(len(BAD) - 1)
)
async def test_what_is_complained_about_does_not_run(sandbox: Sandbox, code: str) -> None:
    code = code.replace("x = run", "x = 1").replace("import x", "")
    outcome = await run(sandbox, code)
    assert outcome.code == ("code_syntax" if not parses(code) else "code_no_run")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "code", [code for code in GOOD if "from agent" not in code], ids=range(len(GOOD) - 3)
)
async def test_what_is_not_complained_about_runs(sandbox: Sandbox, code: str) -> None:
    outcome = await run(sandbox, code)
    assert outcome.code in (None, "code_failed")
    if outcome.error:  # the two whose `run` is no agent's
        assert "lambda" not in code
        assert "TypeError" in outcome.error.message


def parses(code: str) -> bool:
    try:
        compile(ast.parse(code), "code", "exec")
    except SyntaxError:
        return False
    return True
