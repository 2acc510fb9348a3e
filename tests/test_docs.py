"""The documents agree with the code: settings, commands, targets, files, links, checks and forms."""

import importlib.util
import inspect
import json
import re

import pytest
import typer
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from deployments.cli.main import app
from deployments.cli.printing import job_document
from deployments.image.worker_job import WorkerEnvironment
from flows.housekeeping import housekeeping
from infra.jobs.record import Job
from infra.local import services
from infra.local.services import Home, Service
from infra.nosana.worker import NosanaWorker
from infra.settings import Settings
from infra.states import Stage
from tasks.core import errors
from tasks.core.choice.kinds import KINDS
from tasks.core.choice.weights import JUDGED, learned
from tasks.core.edl import EdlClip
from tasks.core.output.clip_checks import ClipMeasurements, check_clip, check_words
from tasks.core.output.render_plan import RenderOptions
from tasks.core.source.batch import BatchRequest
from tests.documents import DOCS, PAGES, README, blocks, calls, code, inline, prose, read, section, table, typed
from tests.folders import ROOT

COMMANDS = DOCS / "command-line.md"
OUTSIDE = ("http://", "https://", "mailto:")
SOURCE_PATH = r"(?:deployments|flows|tasks|infra|tests|docs|requirements)/[\w./-]*"
SETTINGS = {str(field.validation_alias or name.upper()) for name, field in Settings.model_fields.items()}
WORKERS = {name.upper() for name in WorkerEnvironment.model_fields}
COMPOSE = yaml.safe_load((ROOT / "infra" / "docker" / "compose.yaml").read_text())
COMPOSED = set(re.findall(r"^(\w+)=", (ROOT / "infra" / "docker" / "env.example").read_text(), re.MULTILINE))
PREFECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages about the present; the change log also has earlier names."""


def for_each_page(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands():
    """The commands of `kangklip --help` by name."""
    return typer.main.get_command(app).commands


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(text):
    """The anchors that a forge makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


# The README.


def test_the_readme_has_at_most_1100_words():
    assert len(read(README).split()) <= 1100


def test_the_readme_shows_a_picture_then_two_commands_then_three_ways():
    order = ["docs/clips.jpg", "## Two commands", "## On a laptop", "## As a service", "## On Nosana", "## Recipes"]
    places = [read(README).index(part) for part in order]
    assert places == sorted(places)
    assert len(blocks(section(README, "Two commands"))[0].splitlines()) == 2


@pytest.mark.parametrize("way", ["On a laptop", "As a service", "On Nosana"])
def test_each_way_fits_one_screen_and_has_commands(way):
    assert len(section(README, way).splitlines()) <= 40
    assert blocks(section(README, way))


def test_the_recipe_for_a_batch_uses_fields_that_list_prints():
    (program,) = [words for words in typed(section(README, "Recipes")) if words[:1] == ["jq"]]
    row = table(section(COMMANDS, "JSON for programs"))["status"][0]
    printed = set(re.findall(r"\w+", row.split("}")[0]))
    assert set(re.findall(r"\.(\w+)", program[-1])) <= printed | {"jobs"}


# Generated parts.


@pytest.mark.parametrize("page", ["architecture.md", "edit.md", "how-a-job-flows.md", "settings.md"])
def test_generated_sections_are_up_to_date(page):
    assert generator().written(page) == read(DOCS / page), "run: make docs"


def test_every_page_with_markers_is_generated():
    marked = {page.name for page in DOCS.glob("*.md") if "<!-- /" in read(page)}
    assert marked == set(generator().PAGES)


def test_the_picture_shows_every_stage_in_order():
    drawn = re.findall(r"\[\"<b>(\w+)</b>", read(DOCS / "how-a-job-flows.md"))
    assert drawn == [stage for stage in Stage if stage is not Stage.DONE]


def test_the_api_page_lists_the_stages():
    assert f"one of {', '.join(Stage)};" in read(DOCS / "api.md")


# Names.


@for_each_page(CURRENT_PAGES)
def test_named_variables_exist(page):
    """A name in capitals with an underscore is a setting, or a variable of the worker, the server or another tool."""
    theirs = {"XDG_DATA_HOME", "PREFECT_REDIS_MESSAGING_URL"} | _get_valid_setting_names(PrefectSettings)
    tests = set(re.findall(r"environ(?:\.get)?[\[(]\"(\w+)\"", "".join(map(read, (ROOT / "tests").rglob("*.py")))))
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", code(read(page))))
    assert named <= SETTINGS | WORKERS | COMPOSED | tests | theirs


def test_the_job_document_is_described():
    printed = table(section(COMMANDS, "JSON for programs"))["status"][0].split("}")[0]
    assert set(re.findall(r"\w+", printed)) == set(job_document(Job(job_id="kk_1")))


def test_the_workers_environment_is_described():
    assert set(re.findall(r"[A-Z0-9_]+", section(COMMANDS, "`kangklip job`"))) >= WORKERS


def test_the_example_environment_names_only_settings():
    assert set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) <= SETTINGS


@for_each_page(PAGES)
def test_named_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", code(read(page)))) <= targets


def test_every_make_target_is_documented():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `make (\w+)` \|", read(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    assert sorted(rows) == sorted(phony[1].split())


@for_each_page(PAGES)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if target.startswith(OUTSIDE):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(read(linked)), target


@for_each_page(PAGES)
def test_no_two_headings_share_an_anchor(page):
    found = [anchor for anchor in anchors(read(page)) if anchor not in ("added", "fixed", "changed", "removed")]
    assert len(found) == len(set(found))


@for_each_page([README, DOCS / "README.md"])
def test_every_page_is_in_the_table_of_contents(page):
    linked = {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", read(page))}
    assert {other for other in PAGES if other.parent == DOCS and other.name != "README.md"} <= linked


@for_each_page(CURRENT_PAGES)
def test_named_files_exist(page):
    """Source paths between backticks and in commands, such as `tasks/core/object_keys.py` or `infra/local/`."""
    text = read(page)
    named = [path for span in inline(text) if (path := re.fullmatch(SOURCE_PATH, span))]
    named += [path for block in blocks(text) for path in re.finditer(rf"(?<![\w./-]){SOURCE_PATH}", block)]
    for path in named:
        assert (ROOT / path[0]).exists(), path[0]


@for_each_page(CURRENT_PAGES)
def test_source_files_are_named_by_their_whole_path(page):
    """Otherwise readers cannot find it, and a move of the file goes unnoticed."""
    bare = [span for span in inline(read(page)) if re.fullmatch(r"[\w-]+\.py", span)]
    assert not [name for name in bare if name not in ("utils.py", "helpers.py", "common.py", "__init__.py")]


def test_every_top_folder_is_described():
    rows = {name for name in table(section(DOCS / "how-a-job-flows.md", "Folders")) if name.endswith("/")}
    top = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert top <= rows
    assert all((ROOT / name).is_dir() for name in rows)


# Commands.


def test_every_command_is_documented():
    rows = re.findall(r"^\| `kangklip (\w+)", read(COMMANDS), re.MULTILINE)
    assert sorted(rows) == sorted(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_documented_options_and_defaults_match_the_command(name):
    row = next(line for line in read(COMMANDS).splitlines() if line.startswith(f"| `kangklip {name}"))
    known = {
        flag: option
        for option in commands()[name].params
        for flag in (option.secondary_opts or option.opts)
        if flag.startswith("--")
    }
    documented = re.findall(r"`(--[\w-]+)`(.*?)(?=`--|\|$)", row)
    assert {flag for flag, _ in documented} == set(known)
    for flag, words in documented:
        if default := re.search(r"`?([\w.]+)`? by default", words):
            assert default[1] == str(known[flag].default), flag
        short = {one for one in known[flag].opts if not one.startswith("--")}
        assert set(re.findall(r"\(`(-\w)`\)", words)) <= short, flag


@for_each_page(CURRENT_PAGES)
def test_documented_commands_parse(page):
    """The program accepts every `kangklip ...` in shell blocks and between backticks."""
    for words in calls(read(page), "kangklip"):
        if not words or words[0].startswith("-"):
            assert set(words) <= {"--help", "--version"}
            continue
        name, *options = words
        assert name in commands(), words
        arguments = [part for part in commands()[name].params if part.param_type_name == "argument"]
        commands()[name].make_context(name, options or ["FILE"] * len(arguments))


@for_each_page(CURRENT_PAGES)
def test_prefect_commands_name_registered_pools_and_deployments(page):
    pools = {pool["name"] for pool in PREFECT["definitions"]["pools"]}
    deployments = {f"{one['entrypoint'].split('.')[1]}/{one['name']}" for one in PREFECT["deployments"]}
    queues = {queue["name"] for pool in PREFECT["definitions"]["pools"] for queue in pool.get("queues", [])}
    for words in calls(read(page), "prefect"):
        if words[:2] == ["work-pool", "create"]:
            pools.add(words[2])
        if "--pool" in words:
            assert words[words.index("--pool") + 1] in pools
        if words[:1] == ["work-queue"]:
            assert words[2] in queues
        if "deploy" in words and "--name" in words:
            assert words[words.index("deploy") + 1] in {one["entrypoint"] for one in PREFECT["deployments"]}
        if words[:2] == ["deployment", "run"]:
            assert words[2] in deployments
            parameters = dict(word.split("=", 1) for word in words[3:] if "=" in word)
            if words[2].startswith("batch/"):
                assert BatchRequest.model_validate(json.loads(parameters["request"]))
            else:
                assert set(parameters) <= set(inspect.signature(housekeeping.fn).parameters)


@for_each_page(CURRENT_PAGES)
def test_commands_that_need_a_prefect_server_name_it(page):
    """A run is submitted from a new terminal, so its own block has the address; else an earlier one may."""
    so_far = ""
    for block in blocks(read(page)):
        so_far = f"{so_far}\n{block}"
        if re.search(r"\bprefect deployment run\b", block):
            assert "export PREFECT_API_URL=" in block.partition("prefect deployment run")[0], block
        if match := re.search(r"\b(prefect worker start|kangklip deploy)\b", block):
            assert "export PREFECT_API_URL=" in so_far.rpartition(match[0])[0], block


def test_the_readme_says_how_to_choose_the_python():
    makefile = read(ROOT / "Makefile")
    (example,) = re.findall(r"`PYTHON=(\S+)`", section(README, "Two commands"))
    assert re.search(r"^PYTHON \?= ", makefile, re.MULTILINE)
    assert f"make PYTHON={example}" in makefile


@for_each_page(CURRENT_PAGES)
def test_compose_commands_name_existing_services(page):
    text = read(page).replace("$compose", "docker compose")
    profiles = {profile for service in COMPOSE["services"].values() for profile in service.get("profiles", [])}
    for words in calls(text, "docker"):
        if words[:1] != ["compose"]:
            continue
        plain = [word for word in words[1:] if not word.startswith("-")]
        if "--profile" in words:
            assert words[words.index("--profile") + 1] in profiles
        for verb, count in (("run", 1), ("exec", 1), ("logs", 9)):
            if verb in plain:
                after = plain[plain.index(verb) + 1 :][:count]
                assert after
                assert set(after) <= set(COMPOSE["services"])


# Tables.


@for_each_page(CURRENT_PAGES)
def test_named_error_codes_exist(page):
    def below(kind: type) -> set[str]:
        return {kind.code}.union(*(below(sub) for sub in kind.__subclasses__()))

    named = set(re.findall(r"\bcode `(\w+)`", read(page)))
    assert named <= below(errors.ClipError)
    assert named or page.name != "troubleshooting.md"


def test_the_table_of_checks_matches_the_code():
    clip = EdlClip.model_construct(index=1, title="Clip 1", hook="", segments=[], start=0.0, end=1.0)
    measured = ClipMeasurements(duration=1.0, size_bytes=1, integrated=-20.0, true_peak=0.0)
    made = [*check_clip(measured, clip, RenderOptions(), [], [], []), check_words(clip)]
    rows = table(section(DOCS / "results.md", "What every clip must pass"))
    documented = [name for cell in rows for name in cell.split("`, `") if name != "check"]
    assert sorted(documented) == sorted(one.name for one in made)
    (corrected,) = re.findall(r"A clip that fails (.+?) is rendered once more", read(DOCS / "results.md"))
    assert set(re.findall(r"`([\w ]+)`", corrected)) == {one.name for one in made if one.fixable}


def test_the_work_pools_form_is_described():
    form = NosanaWorker.get_default_base_job_template()["variables"]["properties"]
    rows = table(section(DOCS / "nosana.md", "The work pool"))
    own = set(form) - {"name", "env", "labels", "command"}
    assert set(rows) - {"field"} == own
    for name in own:
        if isinstance(form[name].get("default"), int | float):
            assert float(rows[name][0]) == form[name]["default"], name


def test_a_batchs_parameters_are_described():
    rows = table(section(DOCS / "batches.md", "Parameters"))
    documented = {name for cell in rows for name in re.split(r"`?,? (?:or )?`", cell)} - {"parameter"}
    assert documented == set(BatchRequest.model_fields)
    for name, cells in rows.items():
        default = BatchRequest.model_fields[name].default if name in BatchRequest.model_fields else None
        if default:
            assert cells[0].strip("`") == str(default), name


def test_the_embedded_servers_ports_are_named():
    text = section(DOCS / "troubleshooting.md", "A port is taken")
    assert f"between {services._PORTS.start} and {services._PORTS.stop - 1}" in text


def test_the_embedded_stacks_services_and_files_are_described(tmp_path):
    text = section(DOCS / "architecture.md", "The embedded stack")
    home = Home(tmp_path)
    for path in (home.lock, home.users, home.wanted, home.logs):
        assert f"`{path.name}" in text
    assert all(str(service) in text.lower() for service in Service)


def test_the_tables_of_signals_have_the_codes_weights():
    text = read(DOCS / "selection.md")
    judged = dict(re.findall(r"^\| `(\w+)` \| (-?[\d.]+) \| [^\d|-]", text, re.MULTILINE))
    assert {name: float(value) for name, value in judged.items()} == {name: w.value for name, w in JUDGED.items()}
    number = r" (-?[\d.]+) \|"
    rows = re.findall(r"^\| `(\w+)` \|" + number * len(KINDS), text, re.MULTILINE)
    table = {name: dict(zip(KINDS, map(float, values), strict=True)) for name, *values in rows}
    assert table == {name: pytest.approx(by_kind, abs=0.006) for name, by_kind in learned().weights.items()}


def test_pictures_are_small_and_every_one_is_shown():
    pictures = {path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png")}
    assert all(path.stat().st_size <= 250_000 for path in pictures)
    shown = {
        (page.parent / target).resolve() for page in PAGES for target in re.findall(r"!\[.+?\]\((.+?)\)", read(page))
    }
    assert pictures == shown
