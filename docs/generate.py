#!/usr/bin/env python3
"""Writes what the code knows into docs/, between markers: settings, stages, the edit document and the picture of a job.

Run by `make docs`; `tests/test_docs.py` fails while a page is out of date.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from infra.settings import as_markdown
from infra.states import WORKING_STAGES
from tasks.core.edit.document import edit_schema

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FLOW, DRAW = ROOT / "flows/clip.py", ROOT / "tasks/draw.py"
STAGES, ENGINES = "tasks.stages.", "tasks.engines."
RUNS_HERE, SUBMITS = "deployments.local_run", "infra.prefect.runs"
"""The two ways to start the flow: in this process, or as a run on a Prefect server."""


def path_of(module: str) -> Path | None:
    """The file of a module of ours; None where the name is not one."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    return file if file.is_file() else None


def name_of(file: Path) -> str:
    """The file's path from the top of the repository."""
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> dict[str, str]:
    """Module by the name that it is used under in the file, imports inside functions included."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = inner if path_of(inner) else node.module
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    return found


def names_in(nodes: Iterable[ast.AST]) -> list[str]:
    return [name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)]


def stages() -> Iterator[tuple[str, str, list[str]]]:
    """Each stage in order: its task's name, the variable that holds its result, and the variables that it reads.

    A variable that is made of others stands for them. The last stage's result is returned, and has no variable.
    """
    made_of: dict[str, list[str]] = {}
    nodes = ast.walk(ast.parse(FLOW.read_text(encoding="utf-8")))
    for node in sorted((node for node in nodes if isinstance(node, ast.stmt)), key=lambda node: node.lineno):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=result)],
                value=ast.Call(func=ast.Name(id="run_stage"), args=[ast.Name(id=task), *given]),
            ):
                yield task, result, [part for name in names_in(given) for part in made_of.get(name, [name])]
            case ast.Return(value=ast.Call(func=ast.Name(id="run_stage"), args=[ast.Name(id=task), *given])):
                yield task, "", [part for name in names_in(given) for part in made_of.get(name, [name])]
            case ast.Assign(targets=[ast.Name(id=result)], value=ast.Call(keywords=given)):
                made_of[result] = names_in(given)
            case _:
                pass


def stage_files(task: Path) -> list[Path]:
    """The plain functions that a task calls, itself, by tasks/draw.py or by each other."""
    callers = [task, *(DRAW for module in imports(task).values() if path_of(module) == DRAW)]
    found = set[Path]()
    while callers:
        called = {module for caller in callers for module in imports(caller).values() if module.startswith(STAGES)}
        callers = [file for module in called if (file := path_of(module)) and file not in found]
        found.update(callers)
    return sorted(found)


def engines(files: list[Path]) -> list[str]:
    """The outside tools that the files use, by their names below the folder of engines."""
    found = {module for file in files for module in imports(file).values() if module.startswith(ENGINES)}
    return sorted(module.removeprefix(ENGINES).replace(".", "/") for module in found)


def stage_name(task: Path) -> str:
    """What reports call the stage: `Stage.NAME` in the options of its task."""
    found = re.search(r"task_arguments\(Stage\.(\w+)", task.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{name_of(task)} names no stage.")
    return found[1]


def stage_lines() -> Iterator[str]:
    """The stages in order, and which results each reads besides that of the stage before it."""
    known, listed = imports(FLOW), list(stages())
    maker = {result: task for task, result, _ in listed}
    for task, _, _ in listed:
        file = ROOT / f"{known[task].replace('.', '/')}.py"
        below = stage_files(file)
        tools = engines([file, *below])
        named = [f"<i>{', '.join(tools)}</i>"] if tools else []
        yield task + box(f"<b>{stage_name(file)}</b>", name_of(file), *map(name_of, below), *named)
    for (before, result, _), (task, _, reads) in pairwise(listed):
        yield f"{before} ==> {task}"
        yield from (f"{maker[name]} -. {name} .-> {task}" for name in reads if name in maker and name != result)


def callers(method: str) -> list[str]:
    """Files of the ways in that call something of this name."""
    files = sorted(ROOT.glob("deployments/**/*.py"))
    return [name_of(file) for file in files if re.search(rf"\.{method}\(", file.read_text(encoding="utf-8"))]


def box(*lines: str) -> str:
    return f'["{"<br>".join(lines)}"]'


def entry_lines() -> Iterator[str]:
    """Who starts the flow, and through what."""
    here, submits = path_of(RUNS_HERE), path_of(SUBMITS)
    if here is None or submits is None:
        raise ValueError(f"{RUNS_HERE} or {SUBMITS} has moved.")
    yield f"people{box('in a terminal or a container', *callers('run_flow'))} --> here"
    yield f"service{box('by HTTP, or as a retry after a loss', *callers('submit'))} --> submit"
    yield f"here{box(name_of(here), 'the flow in its own process')} --> flow"
    yield f"submit{box(name_of(submits), 'one flow run for each attempt')}"
    for offered in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]:
        if path_of(offered["entrypoint"].rpartition(".")[0]) == FLOW:
            label = f"deployment clip/{offered['name']}<br>work pool {offered['work_pool']['name']}"
            yield f'submit --> {offered["name"]}(["{label}"]) --> flow'
    yield f"flow{box(name_of(FLOW), name_of(ROOT / 'flows/lifecycle.py'))} ==> {next(stages())[0]}"


def picture() -> str:
    """How a job reaches the flow and goes through the stages, as Mermaid."""
    inner = [f"  {line}" for line in [*entry_lines(), *stage_lines()]]
    return "\n".join(["```mermaid", "flowchart TB", *inner, "```"])


def progress() -> str:
    """What each stage stands for, as a table."""
    rows = [f"| {stage} | {stage.span[0]:g} to {stage.span[1]:g} | {stage.facts.doing} |" for stage in WORKING_STAGES]
    return "\n".join(["| stage | percent | what the page says |", "|---|---|---|", *rows])


def edit_fields() -> str:
    """The fields of the edit document, as a table."""
    schema = edit_schema()
    rows = [f"| `{path}` | {value} | {meaning} |" for path, value, meaning in _fields(schema, schema["$defs"], "")]
    return "\n".join(["| field | value | meaning |", "|---|---|---|", *rows])


def _fields(model: dict[str, Any], models: dict[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """Path, value and meaning of each field of a model and of the models below it."""
    for name, field in model["properties"].items():
        item = field.get("items", field)
        path = above + name + ("[]" if "items" in field else "")
        inner = named(models, item) if "$ref" in item else {}
        value = value_of(item, field) + ("" if name in model.get("required", []) else "; optional")
        yield path, value, field.get("description") or inner["description"]
        if inner:
            yield from _fields(inner, models, f"{path}.")
        for kind in (named(models, part) for part in field.get("oneOf", [])):
            yield f"{path}.kind", value_of(kind["properties"].pop("kind")), kind["description"]
            yield from _fields(kind, models, f"{path}.")


def named(models: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The model that a part of a schema refers to."""
    return models[part["$ref"].rpartition("/")[2]]


def value_of(item: dict[str, Any], field: dict[str, Any] | None = None) -> str:
    """What a field of a schema may hold, or each item of it, in a few words."""
    listed = [part["enum"] for part in (item, *item.get("anyOf", [])) if "enum" in part]
    if choices := listed[0] if listed else [item["const"]] if "const" in item else []:
        return ", ".join(f"`{choice}`" for choice in choices)
    if "pattern" in item:
        return f"`{item['pattern']}`"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    words = kinds.get(item.get("type", ""), "object")
    bounds = {"minimum": " from {:g}", "maximum": " to {:,}", "maxLength": ", at most {:,} characters"}
    words += "".join(text.format(item[bound]) for bound, text in bounds.items() if bound in item)
    return words + (f"; at most {field['maxItems']:,} of them" if field and "maxItems" in field else "")


def between(marker: str, text: str, fresh: str) -> str:
    """The text with `fresh` between its markers.

    Raises:
        ValueError: the text has not exactly one pair of them.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    written, found = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{fresh}\n{end}", text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"The page needs one pair of markers: {begin} and {end}.")
    return written


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings.md": ("settings", as_markdown),
    "architecture.md": ("stages", progress),
    "edit.md": ("fields", edit_fields),
    "how-a-job-flows.md": ("picture", picture),
}
"""Marker and content of each page that is written in part."""


def written(page: str) -> str:
    """A page as it should be."""
    marker, make = PAGES[page]
    return between(marker, (DOCS / page).read_text(encoding="utf-8"), make())


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(written(page), encoding="utf-8")
