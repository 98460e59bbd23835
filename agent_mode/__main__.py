"""The command line: `python -m agent_mode serve`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from pydantic import ValidationError

from agent_mode import __version__, cli
from agent_mode.complaints import Complaint, complaints
from agent_mode.errors import AgentModeError
from agent_mode.observe import logs
from agent_mode.server import bundle, doctor
from agent_mode.settings import Settings, get_settings, variable_of

ENVIRONMENT = """\
environment:
  HOST, PORT               where to listen (127.0.0.1, 9099)
  PIPELINES_API_KEY        connection key; default: generated once and kept in the data directory
  OPENAI_API_BASE_URL      an OpenAI-compatible provider, for example http://127.0.0.1:11434/v1
  OPENAI_API_KEY           its key
  OPENWEBUI_URL            Open WebUI, to use its models when no provider is set
  OPENWEBUI_API_KEY        an API key of it
  AGENT_MODE_MODEL         provider model for personas that name none
  AGENT_MODE_DATA_DIR      database, key, run-time pipelines (./data)
  AGENT_MODE_DATABASE_URL  PostgreSQL instead of the embedded SQLite: postgresql://user:password@host/name
  PIPELINES_SERVER_DIR     another checkout of the Pipelines server
All settings: docs/settings.md
"""
_VERBS = {"serve": "start", "backup": "back up"}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m agent_mode",
        description="Personas and agents for Open WebUI.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"Agent Mode {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("serve", help="run the Pipelines server with Agent Mode in it")
    bundle.add_command(commands)
    doctor.add_command(commands)
    cli.add_commands(commands)
    chosen, unknown = parser.parse_known_args(arguments)
    if unknown:  # the command's own usage, which the parser of them all does not know
        commands.choices[chosen.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    if chosen.command != "bundle":
        os.umask(0o077)  # valves hold keys, the database holds who talks to whom
    try:
        if chosen.command == "bundle":
            print("\n".join(bundle.run(chosen)))
            return 0
        settings = get_settings()
        if wrong := settings.misfits():
            return _refused(wrong)
        if chosen.command == "serve":
            _serve(settings)
        else:
            logs.configure(json=settings.log_format == "json", debug=settings.debug)
            if chosen.command == "doctor":
                lines, good = doctor.run(settings)
                print("\n".join(lines))
                return 0 if good else 1
            print("\n".join(asyncio.run(cli.run(chosen, settings))))
    except ValidationError as error:
        return _refused(complaints(error.errors()))
    except AgentModeError as error:
        what = _VERBS.get(chosen.command, chosen.command)
        print(f"Cannot {what}: {error.message}\n  {error.hint}", file=sys.stderr)
        return 2
    return 0


def _refused(wrong: list[Complaint]) -> int:
    """Says which settings cannot be used."""
    for problem in wrong:
        text = f"Setting {variable_of(problem.field)}: {problem.message}. {problem.hint}"
        print(text.rstrip(), file=sys.stderr)
    print("docs/settings.md lists the settings and their values.", file=sys.stderr)
    return 2


def _serve(settings: Settings) -> None:
    from agent_mode.server.serve import serve  # noqa: PLC0415  the server's imports cost half a second

    serve(settings)


def _told() -> int:
    """As `main`; who reads only the first lines, as `head` does, is not told of a broken pipe."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 1
    return status


if __name__ == "__main__":
    sys.exit(_told())
