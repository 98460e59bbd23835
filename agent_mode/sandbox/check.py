"""Looks through an agent's code without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from agent_mode.sandbox.child.failures import FILENAME
from agent_mode.sandbox.child.runner import PARAMETERS

_SIGNATURE = f"async def run({', '.join(PARAMETERS)})"


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """One thing that is wrong with code.

    Args:
        message: what is wrong, as a sentence.
        hint: the cure.
        line: where, counted from 1; None: nowhere in particular.
        column: where in the line, counted from 1.
    """

    message: str
    hint: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column or 1}: " if self.line is not None else ""
        return f"{where}{self.message}"


def check(code: str) -> list[CodeProblem]:
    """What is wrong with the code of an agent, as far as can be said without running it; empty: nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about style
            tree = ast.parse(code, FILENAME)
            compile(tree, FILENAME, "exec", dont_inherit=True)  # finds a `return` outside of a function
    except SyntaxError as error:
        line = min(error.lineno, code.count("\n") + 1) if error.lineno else None
        return [CodeProblem(f"This is not Python: {error.msg}.", "Correct this place.", line, error.offset)]
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        return [CodeProblem(f"This cannot be read as Python: {reason}.", "Simplify the code.")]
    definitions = [*_definitions(tree.body)]
    if not definitions:
        return [CodeProblem("There is no function “run”.", f"Define `{_SIGNATURE}`.")]
    run = definitions[-1]
    if isinstance(run, ast.ClassDef):
        return [_at(run, "“run” is a class.", f"Define `{_SIGNATURE}` instead.")]
    if isinstance(run, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [*_wrong_parameters(run.args)] if not run.decorator_list else []
    return []


def _definitions(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that give `run` its meaning, in their order."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name="run") | ast.AsyncFunctionDef(name="run") | ast.ClassDef(name="run"):
                yield statement
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                if any((name.asname or name.name) in ("run", "*") for name in names):
                    yield statement
            case ast.Assign() | ast.AnnAssign():
                if any(isinstance(part, ast.Name) and part.id == "run" for part in _targets(statement)):
                    yield statement
            case _:
                yield from _definitions(_inner(statement))


def _targets(statement: ast.Assign | ast.AnnAssign) -> Iterator[ast.AST]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        yield from ast.walk(target)


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    """The statements inside of an `if`, `try`, `with`, …"""
    inner: list[ast.stmt] = []
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for part in getattr(statement, name, ()):
            inner += [part] if isinstance(part, ast.stmt) else part.body
    return inner


def _wrong_parameters(arguments: ast.arguments) -> Iterator[CodeProblem]:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [argument for argument, default in pairs if default is None]
    known = ", ".join(f"`{name}`" for name in PARAMETERS)
    for argument in required:
        if argument in arguments.posonlyargs:
            yield _at(argument, f"“run” takes “{argument.arg}” by position only.", "Leave the “/” out.")
        elif argument.arg not in PARAMETERS:
            yield _at(argument, f"“run” asks for “{argument.arg}”.", f"It can have {known}.")


def _at(node: ast.stmt | ast.arg, message: str, hint: str) -> CodeProblem:
    return CodeProblem(message, hint, node.lineno, node.col_offset + 1)
