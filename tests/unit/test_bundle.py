"""Bundles: the same bytes each time, one package for all, and an answer where something is missing."""

from __future__ import annotations

import base64
import bz2
import hashlib
import io
import os
import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_mode import __version__
from agent_mode.__main__ import main
from agent_mode.server import bundle, bundle_head, stand_ins
from tests.bundles import ROOT, build, checkout, in_process, install, site

pytestmark = pytest.mark.long

NAMES = {"data_analyst", "hotswap", "personas", "researcher"}
LOADED = "import agent_mode; print(json.dumps([agent_mode.__version__, agent_mode.__file__]))"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("newer")
    return build(home / "dist", root=checkout(home / "checkout", "99.1.0"))


def put(folder: Path, *files: Path) -> None:
    """As an upload does; the last one is the newest."""
    for number, file in enumerate(files):
        (folder / file.name).write_bytes(file.read_bytes())
        moment = time.time() + number
        os.utime(folder / file.name, (moment, moment))


def archive_of(path: Path) -> zipfile.ZipFile:
    packed = next(found for found in bundle_head.find(path.parent) if found.path == path)
    return zipfile.ZipFile(io.BytesIO(bundle_head.read(packed)))


# The files


def test_the_same_checkout_gives_the_same_bytes(bundles: dict[str, Path], tmp_path: Path) -> None:
    copy = checkout(tmp_path / "elsewhere", __version__)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    again = build(tmp_path / "dist", root=copy)
    assert set(again) == set(bundles) == NAMES
    for name, path in bundles.items():
        assert again[name].read_bytes() == path.read_bytes()


def test_package_personas_strategies_and_migrations_are_inside(bundles: dict[str, Path]) -> None:
    digests = set()
    for path in bundles.values():
        names = archive_of(path).namelist()
        assert names == sorted(names)
        assert {
            "LICENSE",
            "agent_mode/__init__.py",
            "agent_mode/chat/browser.html",
            "agent_mode/store/migrations/env.py",
            "agent_mode/store/migrations/script.py.mako",
            "agent_mode/store/migrations/versions/0001_initial.py",
            "personas/coder.json",
            "strategies/openai-prompt-strategies.json",
            "strategies/templates/calm-xml.txt",
        } <= set(names)
        assert not [name for name in names if "__pycache__" in name or name.startswith(("data", "tests"))]
        digests.add(next(bundle_head.find(path.parent)).digest)
    assert len(digests) == 1


def test_the_files_are_plain_text_of_bounded_lines(bundles: dict[str, Path]) -> None:
    for path in bundles.values():
        text = path.read_bytes().decode("ascii")
        assert max(len(line) for line in text.splitlines()) <= 200
        assert text.endswith("\n")


def test_front_matter_names_the_version_and_runs_no_pip(bundles: dict[str, Path]) -> None:
    for name, path in bundles.items():
        text = path.read_text()
        assert text.startswith('"""')
        front = text[3 : text.find('"""', 3)]
        fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
        assert fields["version"] == __version__
        assert fields["title"]
        assert "requirements" not in front.lower(), "the stock server would run pip at each load"
        packed = b"".join(
            line[3:].encode() for line in text.splitlines(keepends=True) if line.startswith("#: ")
        )
        data = base64.b64decode(packed)
        assert fields["bundle"] == f"agent_mode {__version__} {hashlib.sha256(data).hexdigest()}", name
        assert bz2.decompress(data)


def test_a_file_of_ones_own_is_bundled(tmp_path: Path) -> None:
    source = tmp_path / "echo_agent.py"
    name = 'É """ \\'
    source.write_text(
        f"from agent_mode import AgentPipeline\n\n\nclass Pipeline(AgentPipeline):\n    name = {name!r}\n"
    )
    path = build(tmp_path / "dist", source)["echo_agent"]
    said, _ = in_process(f"p = load({str(path)!r}); print(json.dumps([p.id, p.name]))", cwd=tmp_path)
    assert said == ["echo_agent", name]


@pytest.mark.parametrize("source", ["x = (", "x = 1\n", None], ids=["broken", "no-pipeline", "absent"])
def test_what_is_no_pipeline_is_refused(
    source: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    assert main(["bundle", str(path), "--output", str(tmp_path / "dist")]) == 2
    assert "Cannot bundle: " in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_the_docs_tell_how_large_a_bundle_is(bundles: dict[str, Path]) -> None:
    told = re.search(r"about ([\d.]+) MB each", (ROOT / "docs" / "stock-server.md").read_text())
    assert told
    assert {round(path.stat().st_size / 1_000_000, 1) for path in bundles.values()} == {float(told[1])}


def test_what_is_needed_is_what_the_tests_on_old_pins_install() -> None:
    lines = (ROOT / "requirements-stock.txt").read_text().splitlines()
    assert set(stand_ins.NEEDED) - {"greenlet"} <= set(lines)  # greenlet comes with sqlalchemy[asyncio]
    page = (ROOT / "docs" / "stock-server.md").read_text()
    told = re.search(r"^ *python -m pip install (.*)$", page, re.MULTILINE)
    assert told
    names = {requirement.partition(">")[0] for requirement in stand_ins.NEEDED} - {"greenlet"}
    assert {name.strip("'") for name in told[1].split()} == names
    assert stand_ins.NEEDED_FOR_POSTGRESQL in (ROOT / "requirements.txt").read_text().splitlines()


def test_versions_are_in_order() -> None:
    shuffled = ["0.10.0", "0.1.0", "1.0", "0.1.0rc1", "0.2.0", "0.1.0.dev3"]
    in_order = ["0.1.0.dev3", "0.1.0rc1", "0.1.0", "0.2.0", "0.10.0", "1.0"]
    assert sorted(shuffled, key=bundle_head.order_of) == in_order


# Loading


def test_the_package_is_unpacked_once_and_shared(bundles: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, *bundles.values())
    code = (
        "load('personas.py'); first = sys.modules['agent_mode.server.host'];"
        "load('hotswap.py'); load('personas.py'); load('data_analyst.py'); load('researcher.py');"
        "assert sys.modules['agent_mode.server.host'] is first;"
        "assert os.environ['AGENT_MODE_DATA_DIR'] == os.path.join(os.getcwd(), '.agent_mode', 'data');"
        + LOADED
    )
    (version, file), logged = in_process(code, cwd=tmp_path)
    assert (version, logged) == (__version__, "")
    folders = {path.name for path in (tmp_path / ".agent_mode").iterdir()}
    assert folders == {Path(file).parents[1].name, "data"}


def test_a_changed_or_incomplete_unpacked_file_is_repaired(bundles: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, bundles["personas"])
    (_, file), _ = in_process("load('personas.py');" + LOADED, cwd=tmp_path)
    Path(file).write_text("raise SystemExit('changed')")
    Path(file).with_name("errors.py").unlink()
    (version, _), _ = in_process("load('personas.py');" + LOADED, cwd=tmp_path)
    assert version == __version__


def test_packages_that_nobody_has_started_with_for_long_go(bundles: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, bundles["personas"])
    home = tmp_path / ".agent_mode"
    ages = {"0" * 16: bundle_head.KEEP_DAYS + 1, "1" * 16: bundle_head.KEEP_DAYS - 1, "data": 999}
    for name, days in ages.items():
        (home / name).mkdir(parents=True)
        then = time.time() - days * 86_400
        os.utime(home / name, (then, then))
    (_, file), logged = in_process("load('personas.py');" + LOADED, cwd=tmp_path)
    assert logged == ""
    ours = Path(file).parents[1]
    assert {path.name for path in home.iterdir()} == {ours.name, "1" * 16, "data"}
    os.utime(ours, (0, 0))
    in_process("load('personas.py');" + LOADED, cwd=tmp_path)
    assert ours.stat().st_mtime > time.time() - 60, "it is in use"


def test_two_servers_with_one_folder_unpack_at_once(bundles: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, bundles["personas"])
    code = "load('personas.py');" + LOADED
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: in_process(code, cwd=tmp_path), range(3)))
    assert {Path(file).parents[2] for (_, file), _ in found} == {tmp_path / ".agent_mode"}
    assert len(list((tmp_path / ".agent_mode").iterdir())) == 2


def test_where_nothing_can_be_written_it_is_unpacked_among_the_temporary_files(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    folder, temporary = tmp_path / "pipelines", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    put(folder, bundles["personas"])
    (folder / ".agent_mode").write_text("in the way, also for root")
    code = "load('personas.py'); assert 'AGENT_MODE_DATA_DIR' not in os.environ;" + LOADED
    (_, file), _ = in_process(code, cwd=folder, TMPDIR=str(temporary))
    place = Path(file).parents[2]
    assert place.parent == temporary
    assert place.stat().st_mode & 0o077 == 0

    place.chmod(0o777)  # somebody else may have put something there
    said, _ = in_process("print(json.dumps(shown(load('personas.py'))))", cwd=folder, TMPDIR=str(temporary))
    assert "belongs to somebody else" in said["error"]["message"]


@pytest.mark.parametrize("order", [("personas", "hotswap"), ("hotswap", "personas")])
def test_the_newest_package_serves_all(
    order: tuple[str, str], bundles: dict[str, Path], newer: dict[str, Path], tmp_path: Path
) -> None:
    put(tmp_path, newer["personas"], bundles["hotswap"])  # the older one was uploaded later
    loads = "".join(f"load('{name}.py');" for name in order)
    (version, _), _ = in_process(loads + LOADED, cwd=tmp_path)
    assert version == "99.1.0"


def test_of_one_version_the_last_upload_serves_all(bundles: dict[str, Path], tmp_path: Path) -> None:
    other = checkout(tmp_path / "checkout", __version__, errors="\nLAST = True\n")
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", bundles["hotswap"], build(tmp_path / "dist", root=other)["personas"])
    code = "load('hotswap.py'); from agent_mode import errors; print(json.dumps(errors.LAST))"
    assert in_process(code, cwd=tmp_path / "server")[0] is True


def test_an_upload_takes_over_when_nothing_is_at_work(
    bundles: dict[str, Path], newer: dict[str, Path], tmp_path: Path
) -> None:
    put(tmp_path, bundles["personas"])
    code = f"""
import shutil
load("personas.py")
import agent_mode
host = sys.modules["agent_mode.server.host"].host
shutil.copy({str(newer["hotswap"])!r}, "hotswap.py")
host._users = 1  # a pipeline runs
load("personas.py"); load("hotswap.py")
busy = sys.modules["agent_mode"].__version__
host._users = 0
load("personas.py"); load("hotswap.py")
idle = sys.modules["agent_mode"].__version__
mixed = [name for name, module in sys.modules.items() if getattr(module, "Host", 0) is host.__class__]
os.remove("hotswap.py")
load("personas.py")
print(json.dumps([busy, idle, mixed, sys.modules["agent_mode"].__version__]))
"""
    said, logged = in_process(code, cwd=tmp_path)
    assert said == [__version__, "99.1.0", [], __version__]
    assert "goes on until the server restarts" in logged


def test_an_older_one_goes_on_where_the_newest_cannot_be_used(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    broken = checkout(tmp_path / "checkout", "99.0.0", **{"server/pipeline": "\nimport no_such_package\n"})
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", bundles["personas"], build(tmp_path / "dist", root=broken)["hotswap"])
    for order in (("personas", "hotswap"), ("hotswap", "personas")):
        loads = "".join(f"load('{name}.py');" for name in order)
        (version, _), logged = in_process(loads + LOADED, cwd=tmp_path / "server")
        assert version == __version__
        assert "no_such_package" in logged


def test_a_package_of_the_servers_own_is_never_replaced(newer: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, newer["personas"])
    (version, file), _ = in_process("load('personas.py');" + LOADED, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (version, file) == (__version__, str(ROOT / "agent_mode" / "__init__.py"))
    assert not (tmp_path / ".agent_mode").exists()


@pytest.mark.parametrize("cut", [30_000, 200_000])
def test_a_damaged_upload_says_so(cut: int, bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "personas.py").write_bytes(bundles["personas"].read_bytes()[:cut])
    said, _ = in_process("print(json.dumps(shown(load('personas.py'))))", cwd=tmp_path)
    assert "Upload it again" in said["error"]["message"]
    put(tmp_path, bundles["hotswap"])
    said, _ = in_process("load('personas.py').valves; load('hotswap.py');" + LOADED, cwd=tmp_path)
    assert said[0] == __version__


# Missing packages


def test_without_the_packages_the_models_say_what_to_install(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    packages = site(tmp_path / "site", without=("sqlalchemy", "alembic"))
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", *bundles.values())
    code = """
personas, hotswap = load("personas.py"), load("hotswap.py")
agents = [load("researcher.py"), load("data_analyst.py")]
for pipeline in (personas, hotswap, *agents):
    asyncio.run(pipeline.on_startup())
body = {"model": "gpt", "messages": [{"role": "user", "content": "!coder hi"}]}
print(json.dumps({
    "models": [model["id"] for model in personas.pipelines()],
    "names": [agent.name for agent in agents],
    "untouched": asyncio.run(hotswap.inlet(dict(body), {})) == body,
    "valves": [personas.valves.keyword_prefix, hotswap.valves.pipelines, agents[0].valves.allowed_tools],
    "said": [shown(pipeline) for pipeline in (personas, *agents)],
    "streamed": shown(personas, stream=True),
}))
"""
    said, logged = in_process(code, packages=packages, cwd=tmp_path / "server")
    assert {"coder", "writer"} <= set(said["models"])
    assert said["names"] == ["🔎 Researcher", "📊 Data analyst"]
    assert said["untouched"]
    assert said["valves"][:2] == ["!", ["*"]]
    assert said["valves"][2].startswith("*search*")
    assert said["streamed"] == [said["said"][0]]
    for answer in said["said"]:
        message = answer["error"]["message"]
        assert "sqlalchemy, alembic" in message
        assert "python -m pip install 'sqlalchemy[asyncio]>=2.0.30' 'alembic>=1.13'" in message
        assert "docker exec" in message
        assert "structlog" not in message
    assert re.search(r"hotswap: .*sqlalchemy", logged)


def test_after_the_installation_the_next_load_works(bundles: dict[str, Path], tmp_path: Path) -> None:
    packages = site(tmp_path / "site", without=("structlog",))
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", bundles["personas"])
    code = f"""
before = type(load("personas.py")).__mro__[1].__module__
os.symlink(os.path.join({str(tmp_path)!r}, "real"), os.path.join({str(packages)!r}, "structlog"))
print(json.dumps([before, type(load("personas.py")).__mro__[1].__module__]))
"""
    install(tmp_path, "structlog")
    (tmp_path / "structlog").rename(tmp_path / "real")
    said, _ = in_process(code, packages=packages, cwd=tmp_path / "server")
    assert said == ["agent_mode.server.stand_ins", "agent_mode.server.pipeline"]


def test_a_package_too_old_is_told_too(bundles: dict[str, Path], tmp_path: Path) -> None:
    packages = site(tmp_path / "site", without=("structlog",))
    (packages / "structlog.py").write_text("")
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", bundles["personas"])
    code = "print(json.dumps(shown(load('personas.py'))))"
    said, _ = in_process(code, packages=packages, cwd=tmp_path / "server")
    assert "structlog" in said["error"]["message"]
    assert "pip install" in said["error"]["message"]


def test_without_what_the_stand_ins_need_the_reason_is_told_all_the_same(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    packages = site(tmp_path / "site", without=("pydantic", "sqlalchemy"))
    (tmp_path / "server").mkdir()
    put(tmp_path / "server", *bundles.values())
    code = "print(json.dumps([shown(load(name + '.py')) for name in ('personas', 'hotswap', 'personas')]))"
    said, _ = in_process(code, packages=packages, cwd=tmp_path / "server")
    for answer in said:
        assert "No module named 'pydantic'" in answer["error"]["message"]


def test_the_default_of_the_output_is_ignored_by_git() -> None:
    assert f"/{bundle.OUTPUT}/" in (ROOT / ".gitignore").read_text().splitlines()
