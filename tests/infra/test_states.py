"""The table of stages is in order, without gaps, and the only one."""

import re
from itertools import pairwise

from infra.jobs import scripts
from infra.states import FIRST_STAGE, WORKING_STAGES, Stage
from tests.folders import ROOT


def test_progress_never_goes_back_from_stage_to_stage() -> None:
    assert [stage.facts.end for stage in WORKING_STAGES[:-1]] == [stage.facts.begin for stage in WORKING_STAGES[1:]]
    assert all(0 < stage.facts.begin < stage.facts.end < 100 for stage in WORKING_STAGES)
    assert all(a.percent(1) <= b.percent(0) for a, b in pairwise(Stage))


def test_lua_uses_the_tables_order() -> None:
    ranks = dict(re.findall(r"(\w+)=(\d)", scripts.REPORT.split("{")[1].split("}")[0]))
    assert sorted(ranks, key=lambda name: int(ranks[name])) == list(Stage)
    assert f"first_stage, last_stage, rank = '{FIRST_STAGE}', 'DONE'" in scripts.CREATE


def test_scripts_hold_no_second_table_of_stages() -> None:
    """Neither Lua nor the page names a working stage."""
    names = re.compile("|".join(WORKING_STAGES))
    files = [*(ROOT / "infra" / "jobs").glob("*.py"), *(ROOT / "deployments" / "api" / "web").rglob("*.js")]
    assert [path.name for path in files if names.search(path.read_text(encoding="utf-8"))] == []
