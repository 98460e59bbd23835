"""What a turn through Agent Mode costs, against the same request sent directly and through a peer.

    python -m benchmarks.switch                          # all parts, about 8 minutes
    python -m benchmarks.switch --parts speed --repeats 3
    python -m benchmarks.switch --only direct,stock      # without our server

Parts:
    ttft    time to first token with 1, 40, 100 and 400 chats at once, an LLM that sends 50 tokens 20 ms apart
    speed   tokens per second at full speed: 8 chats at once, 2000 tokens each, no delay
    micro   detection, strategy, template and context for a switch in a 200-message chat

Variants: `direct` is the stub LLM itself; `ours` is `python -m agent_mode serve` with the persona Coder;
`stock` is the unmodified Pipelines server with a pipeline that works as upstream's openai_manifold_pipeline
(peers/openai_manifold.py). All are measured in the same run, in an order shuffled anew in every repeat; a
figure is the median over the repeats of the median of a run. The server under test has one CPU, the stub and
the load generator have another.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from agent_mode.chat.commands import Grammar, parse
from agent_mode.chat.messages import message_text
from agent_mode.chat.switching import detect_agent_switch, plan_turn
from agent_mode.prompts.reset import Identity
from agent_mode.prompts.strategies import StrategyBook
from agent_mode.prompts.templates import TemplateSet
from agent_mode.settings import ROOT
from agent_mode.store.exchange import read_catalogue
from benchmarks import load, stand

VARIANTS = ("direct", "ours", "stock")
PARTS = ("ttft", "speed", "micro")
PERSONA = "personas.coder"

TTFT_MODEL, TTFT_TOKENS = "gpt-stub-n50-i20-f20", 50
TTFT_GOAL = 1.06
CHATS_PER_WORKER = {1: 5, 40: 3, 100: 2, 400: 1}

SPEED_MODEL, SPEED_TOKENS = "gpt-stub-n2000-i0-f0-b1", 2000
SPEED_GOAL = 25
SPEED_WORKERS = 8
SPEED_CHATS = {"direct": 20, "ours": 10, "stock": 1}

MICRO_MESSAGES = 200
MICRO_GOAL = 0.5
MICRO_MODELS = ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "llama3.2:3b")


class Target(NamedTuple):
    url: str
    model: str
    pid: int


class Options(NamedTuple):
    only: tuple[str, ...]
    levels: tuple[int, ...]
    repeats: int
    stock_loop: str


@contextmanager
def targets(options: Options, model: str) -> Iterator[dict[str, Target]]:
    """The variants, running, and this process on the CPU beside theirs."""
    tested, beside = stand.cpus()
    with ExitStack() as stack:
        provider = stack.enter_context(stand.stub(cpu=beside))
        found = {"direct": Target(provider.url, model, provider.pid)}
        if "ours" in options.only:
            server = stack.enter_context(stand.ours(provider.url, model=model, cpu=tested))
            found["ours"] = Target(server.url, PERSONA, server.pid)
        if "stock" in options.only:
            peer = stand.PEERS / "openai_manifold.py"
            server = stack.enter_context(
                stand.stock([peer], provider.url, cpu=tested, loop=options.stock_loop)
            )
            found["stock"] = Target(server.url, f"{peer.stem}.{model}", server.pid)
        stack.enter_context(stand.pinned(beside))
        for name, target in found.items():
            first = measure(target, 1, 1, timeout=20)
            if first.errors:
                raise SystemExit(f"{name} does not answer: {first.errors[0]}")
        yield {name: target for name, target in found.items() if name in options.only}


def measure(
    target: Target, workers: int, chats: int, *, expect: int = 0, ramp: float = 0.0, timeout: float = 120.0
) -> load.LoadResult:
    return load.run(
        load.run_load(
            target.url,
            target.model,
            concurrency=workers,
            chats=chats,
            ramp=ramp,
            expect=expect,
            authorization=stand.AUTHORIZATION,
            pid=target.pid,
            timeout=timeout,
        )
    )


def shuffled(found: dict[str, Target]) -> list[tuple[str, Target]]:
    return random.sample(list(found.items()), len(found))


def ttft(options: Options) -> None:
    runs: dict[tuple[int, str], list[load.LoadResult]] = defaultdict(list)
    with targets(options, TTFT_MODEL) as found:
        for _ in range(options.repeats):
            for level in options.levels:
                for name, target in shuffled(found):
                    ramp = 1.0 if level > 1 else 0.0
                    chats = CHATS_PER_WORKER.get(level, 2)
                    run = measure(target, level, chats, expect=TTFT_TOKENS, ramp=ramp)
                    runs[level, name].append(run)
    print(f"\nTime to first token, ms: median / p95 (ratio to direct; goal: {TTFT_GOAL})")
    row("chats", *options.only)
    for level in options.levels:
        direct = runs.get((level, "direct"))
        row(str(level), *(ttft_cell(runs[level, name], direct) for name in options.only))
    complain(run for each in runs.values() for run in each)


def ttft_cell(runs: Sequence[load.LoadResult], direct: Sequence[load.LoadResult] | None) -> str:
    good = [run.ttft for run in runs if run.ttft]
    if not good:
        return "failed"
    median = statistics.median(map(statistics.median, good))
    tail = statistics.median(load.percentile(run, 0.95) for run in good)
    cell = f"{median:.1f} / {tail:.1f}"
    if direct is None or runs is direct:
        return cell
    return f"{cell} ({median / statistics.median(statistics.median(run.ttft) for run in direct):.2f})"


def speed(options: Options) -> None:
    runs: dict[str, list[load.LoadResult]] = defaultdict(list)
    with targets(options, SPEED_MODEL) as found:
        for _ in range(options.repeats):
            for name, target in shuffled(found):
                run = measure(target, SPEED_WORKERS, SPEED_CHATS[name], expect=SPEED_TOKENS)
                runs[name].append(run)
    print(f"\nFull speed, {SPEED_WORKERS} chats at once, {SPEED_TOKENS} tokens each")
    row("variant", "tokens/s", "CPU ms per 1000 tokens")
    rates = {}
    for name in options.only:
        rates[name] = statistics.median(run.tokens_per_second for run in runs[name])
        cost = statistics.median(run.cpu_seconds / max(1, run.tokens) * 1e6 for run in runs[name])
        row(name, f"{rates[name]:,.0f}", f"{cost:.2f}")
    if rates.get("ours") and rates.get("stock"):
        print(f"ours / stock: {rates['ours'] / rates['stock']:.1f} (goal: {SPEED_GOAL})")
    complain(run for each in runs.values() for run in each)


def micro(repeats: int = 2000) -> None:
    """Detection, strategy, template and context of one switch, as `chat/conversation.py` does them."""
    strategies = StrategyBook(ROOT / "strategies")
    templates = TemplateSet(ROOT / "strategies" / "templates")
    forms, _ = asyncio.run(read_catalogue(ROOT / "personas"))
    personas = {form.key: Identity(form.key, form.name, form.prompt) for form in forms}
    grammar = Grammar(frozenset(personas))
    transcript = long_chat(MICRO_MESSAGES)
    print(f"\nOne switch in a chat of {MICRO_MESSAGES} messages, ms (goal: {MICRO_GOAL})")
    row("model", "median", "p95")
    for model in MICRO_MODELS:
        times: list[float] = []
        for number in range(repeats):
            key = "writer" if number % 2 else "coder"
            messages = [*transcript, {"role": "user", "content": f"!{key} and what do you say?"}]
            start = time.perf_counter()
            said = parse(message_text(messages[-1]), grammar)
            detection = detect_agent_switch(messages, "teacher", grammar, said=said)
            plan_turn(
                messages,
                personas[detection.current],
                personas[detection.previous or "teacher"],
                strategies.select(model).strategy,
                templates,
                grammar,
                switched=detection.is_switch,
            )
            times.append((time.perf_counter() - start) * 1000)
        row(model, f"{statistics.median(times):.3f}", f"{load.percentile(times, 0.95):.3f}")


def long_chat(count: int) -> list[dict[str, str]]:
    """A plain transcript: questions of a line, answers of a paragraph."""
    question = "How would you put this so that a newcomer understands it at once? "
    answer = "There is more than one way to say it, and each has its price. " * 12
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [dict(turns[number % 2]) for number in range(count)]


def row(first: str, *cells: str) -> None:
    print(f"{first:>18}" + "".join(f"{cell:>26}" for cell in cells))


def complain(runs: Iterator[load.LoadResult]) -> None:
    errors = [error for run in runs for error in run.errors]
    if errors:
        print(f"{len(errors)} chats failed, such as: {errors[0]}")


def names(allowed: Sequence[str], text: str) -> tuple[str, ...]:
    chosen = text.split(",")
    unknown = set(chosen) - set(allowed)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(allowed)}"
        )
    return tuple(name for name in allowed if name in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=lambda text: names(PARTS, text), default=PARTS)
    parser.add_argument("--only", type=lambda text: names(VARIANTS, text), default=VARIANTS, help="variants")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--levels",
        type=lambda text: tuple(map(int, text.split(","))),
        default=tuple(CHATS_PER_WORKER),
        help="chats at once, for ttft",
    )
    parser.add_argument(
        "--stock-loop",
        choices=["auto", "asyncio"],
        default="auto",
        help="event loop of the stock server: auto takes uvloop and httptools, as in upstream's image",
    )
    args = parser.parse_args()
    options = Options(args.only, args.levels, args.repeats, args.stock_loop)
    for part in args.parts:
        if part == "micro":
            micro()
        else:
            {"ttft": ttft, "speed": speed}[part](options)


if __name__ == "__main__":
    main()
