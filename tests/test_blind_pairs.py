"""The harness for blind comparisons asks about each pair once, alternates the order, and keeps the verdicts."""

import json

import httpx
import pytest

from tasks.core.transcript import TRANSCRIPT_JSON, Segment
from tests import blind_pairs
from tests.core.choice.test_selection import FIRE, PIANO, dull_lines, spoken
from tests.llm_server import KEY, serving


@pytest.fixture
def transcript(tmp_path):
    talk = spoken([*dull_lines(20, 1), *FIRE, *dull_lines(20, 2), *PIANO, *dull_lines(20, 3)])
    segments = [Segment(text=s.text, start=s.start, duration=s.end - s.start, words=s.words) for s in talk]
    path = tmp_path / "kk_one" / "transcript.json"
    path.parent.mkdir()
    path.write_bytes(TRANSCRIPT_JSON.dump_json(segments))
    return path


def better(handler):
    """Answer with the excerpt about a fire or a piano; neither, if both or none are."""
    data = json.loads(handler.server.requests[-1]["messages"][1]["content"])
    fit = [letter for letter, text in data.items() if "the cat" in text or "piano" in text]
    handler.reply({"better": fit[0] if len(fit) == 1 else "neither"})


def run(transcript, results, server, monkeypatch):
    monkeypatch.setenv("LLM_API_KEY", KEY)
    address = f"http://127.0.0.1:{server.server_port}/v1"
    options = ["--results", str(results), "--seconds", "20", "--count", "2", "--model", "tiny", "--api-base", address]
    blind_pairs.main([str(transcript), *options])


def test_an_llm_compares_each_pair_once_in_alternating_order(transcript, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results.jsonl"
    with serving() as server:
        server.behave = better
        run(transcript, results, server, monkeypatch)
        assert len(server.requests) == 4
        kept = blind_pairs.read(results)
        assert [entry["ours"] for entry in kept] == ["A", "B", "A", "B"]
        assert [entry["rival"] for entry in kept] == ["random", "random", "first", "first"]
        assert {entry["judge"] for entry in kept} == {"tiny"}
        assert [entry["better"] for entry in kept if entry["rival"] == "first"] == ["ours", "ours"]
        run(transcript, results, server, monkeypatch)
        assert len(server.requests) == 4
        assert blind_pairs.read(results) == kept
    assert "first: ours better in 2 of 2 (100%, 34% to 100%); shown first in 1, better in 1" in capsys.readouterr().out


def test_what_was_judged_is_kept_if_the_llm_fails(transcript, tmp_path, monkeypatch):
    results = tmp_path / "results.jsonl"
    with serving() as server:
        server.behave = lambda handler: better(handler) if len(server.requests) < 3 else handler.send(500, "{}")
        with pytest.raises(httpx.HTTPStatusError):
            run(transcript, results, server, monkeypatch)
    assert len(blind_pairs.read(results)) == 2


def test_no_text_of_a_recording_is_kept(transcript, tmp_path):
    results = tmp_path / "results.jsonl"
    blind_pairs.compare(blind_pairs.pairs(transcript, "en", 20.0, 2, 1), lambda *_: "A", "someone", results)
    assert "piano" not in results.read_text()
    assert [entry["better"] for entry in blind_pairs.read(results)] == ["ours", "rival", "ours", "rival"]


def test_a_person_is_asked_until_the_answer_is_one(monkeypatch, capsys):
    said = iter(["", "c", " B "])
    monkeypatch.setattr("builtins.input", lambda _: next(said))
    assert blind_pairs.ask_person("One.", "Two.") == "B"
    assert "A: One." in capsys.readouterr().out
