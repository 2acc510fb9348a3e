"""The documents say what the code does: settings, commands, targets, files and links."""

import importlib.util
import re

import pytest
import typer

from deployments.cli import app
from deployments.worker_job import WorkerEnvironment
from infra.local.parts import Home, Part
from infra.settings import Settings
from infra.states import Stage
from tasks.core import errors
from tasks.core.selection import WEIGHTS
from tests.folders import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")
OUTSIDE = ("http://", "https://", "mailto:")


def all_documents():
    return pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def commands():
    """The commands of `kangklip --help` by name."""
    return typer.main.get_command(app).commands


def code(text: str) -> str:
    """What stands in code blocks and between backticks."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


def section(title: str) -> str:
    """The README's text under a heading of the second level."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def anchors(text: str) -> set[str]:
    """Headings as a forge makes them into anchors."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_settings_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.with_settings(README) == README, "run: make docs"
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert tables.with_stages(architecture) == architecture, "run: make docs"


def test_the_stages_of_the_api_are_those_of_the_code():
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"one of {', '.join(Stage)};" in api


def test_variables_named_are_settings():
    """In capitals and with an underscore: a setting, the worker's variable, or somebody else's."""
    theirs = {"XDG_DATA_HOME"}
    own = {str(field.validation_alias or name.upper()) for name, field in Settings.model_fields.items()}
    workers = {name.upper() for name in WorkerEnvironment.model_fields}
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", code(README)))
    assert named <= own | workers | theirs
    assert workers <= set(re.findall(r"[A-Z0-9_]+", section("`kangklip job`")))


def test_the_example_environment_names_settings():
    own = {str(field.validation_alias or name.upper()) for name, field in Settings.model_fields.items()}
    assert set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) <= own


def test_every_command_is_documented():
    rows = re.findall(r"^\| `kangklip (\w+)", section("Command line"), re.MULTILINE)
    assert sorted(rows) == sorted(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_options_are_those_of_the_command(name):
    row = next(line for line in section("Command line").splitlines() if line.startswith(f"| `kangklip {name}"))
    known = {
        flag
        for option in commands()[name].params
        for flag in (option.secondary_opts or option.opts)
        if flag.startswith("--")
    }
    assert set(re.findall(r"`(--[\w-]+)`", row)) == known


@all_documents()
def test_commands_that_are_named_exist(document):
    text = code(document.read_text(encoding="utf-8"))
    used = re.findall(r"(?:`|bin/|^|\$ )kangklip (\w+)((?: --\w+)?)", text, re.MULTILINE)
    assert {command for command, _ in used} <= set(commands())


@all_documents()
def test_make_targets_that_are_named_exist(document):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", code(document.read_text(encoding="utf-8"))))
    assert named <= targets


def test_the_main_targets_are_documented():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {target for target in phony[1].split() if f"`make {target}" not in code(README + contributing)} == set()


@all_documents()
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(OUTSIDE):
            continue
        path, _, anchor = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


@all_documents()
def test_files_that_are_named_exist(document):
    """Paths into the source: `tasks/core/keys.py`, `infra/local/`."""
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:deployments|flows|tasks|infra|tests|docs|requirements)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_map_shows_the_folders_that_are_there():
    drawn = set(re.findall(r"^( *[\w./]+/) ", section("Map"), re.MULTILINE))
    top = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert top <= drawn
    assert all((ROOT / name).is_dir() for name in drawn if not name.startswith(" "))
    assert all((ROOT / "tasks" / name.strip()).is_dir() for name in drawn if name.startswith(" "))


def test_causes_that_are_named_are_codes_of_errors():
    def below(kind: type) -> set[str]:
        return {kind.code}.union(*(below(sub) for sub in kind.__subclasses__()))

    named = set(re.findall(r"\bcode `(\w+)`", README))
    assert named
    assert named <= below(errors.ClipError)


def test_the_parts_of_the_embedded_stack_are_described(tmp_path):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    home = Home(tmp_path)
    for path in (home.lock, home.users, home.wanted, home.logs):
        assert f"`{path.name}" in text
    assert all(str(part) in text.lower() for part in Part)


def test_the_table_of_signals_has_their_weights():
    text = (ROOT / "docs" / "selection.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (-?[\d.]+) \|", text, re.MULTILINE))
    assert {name: float(value) for name, value in rows.items()} == {name: w.value for name, w in WEIGHTS.items()}


def test_the_pictures_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "docs").glob("*.jpg")) <= 250_000
