"""The whole SELECT stage, from transcript to EDL, with a real HTTP endpoint in place of an LLM."""

import json
import logging
import re
import threading
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import imageio_ffmpeg
import numpy as np
import pytest
from pydantic import SecretStr

from tasks.core.edit.cuts import SourceWords, left_out
from tasks.core.edit.drawing import asked_drawing
from tasks.core.errors import NoSpeech, TooShort
from tasks.core.media import HeatmapPoint, SourceMeta
from tasks.core.request import ClipRequest
from tasks.core.speech.wordlists import word_lists
from tasks.core.titles.clauses import standing_alone
from tasks.core.titles.grounding import unspoken_words
from tasks.core.titles.headline import MAX_TITLE_CHARS
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines.choice.llm import LlmOptions
from tasks.stages.select import select_clips
from tests.folders import MEDIA

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
JOB = "kk_01ARZ3NDEKTSV4RRFFQ69G5FAV"
LINES = [
    "The regional administration documented the corresponding procedures extensively.",
    "Additional requirements are specified in the supplementary regulations.",
    "The implementation schedule was coordinated with participating institutions.",
    "Why did the whole village hide a piano?",
    "My uncle said, nobody takes the piano!",
    "We put it in the barn, under the hay.",
    "And every night you could hear it play.",
    "Quarterly expenditures approximated the anticipated budgetary allocations.",
    "The committee considered alternative configurations of existing facilities.",
    "Representatives examined the proposed modifications throughout the period.",
    "You never know who your friends are until the boat sinks.",
    "I asked the captain, can you swim?",
    "He laughed and said, no, that is why I have a boat.",
    "So we learned to swim that summer, all of us.",
    "The evaluation procedure consists of several consecutive administrative phases.",
    "Corresponding documentation was distributed among the participating organizations.",
]


@pytest.fixture
def segments() -> list[Segment]:
    made, at = [], 0.5
    for line in LINES:
        words = []
        for token in line.split():
            words.append(Word(word=token, start=at, end=at + 0.1 + 0.05 * len(token)))
            at = words[-1].end
        made.append(Segment(text=line, start=words[0].start, duration=at - words[0].start, words=words))
        at += 0.5
    return made


META = SourceMeta(source_id="x", kind="file_url", title="A talk")
REQUEST = ClipRequest(video_url="https://example.com/a.mp4", clip_duration_seconds=12, clip_count=2)


def select(segments, *, request=REQUEST, language="en", audio=None, meta=META, llm=None):
    return select_clips(JOB, request, Speech(segments, language), audio, meta, llm, FFMPEG)


def check_edl(edl, count=2):
    assert [clip.index for clip in edl.clips] == list(range(1, len(edl.clips) + 1))
    assert len(edl.clips) == count
    everything = [*edl.clips, *edl.reserve]
    spans = sorted((span.start, span.end) for clip in everything for span in clip.segments)
    assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(spans))
    for clip in everything:
        assert 9.6 - 1e-6 <= clip.duration <= 12 + 1e-6
        assert 0 < len(clip.title) <= 60
        assert clip.hook
        assert clip.why
        assert clip.signals


def test_without_an_llm_the_signals_select_and_the_edl_says_so(segments):
    edl = select(segments)
    check_edl(edl)
    assert "the sound was not measured" in edl.notes
    assert edl.job_id == JOB
    assert edl.selection.mode == "heuristic"
    assert edl.selection.reason == "no LLM is configured"
    text = " ".join(clip.segments[0].text for clip in edl.clips)
    assert "piano" in text
    assert "captain" in text


@pytest.mark.parametrize(("seconds", "count"), [(20, 2), (30, 2), (30, 3), (45, 2)])
def test_the_samples_highlights_are_selected(seconds, count):
    sample = json.loads((MEDIA / "sample.json").read_text())
    segments = [
        Segment(
            text=s["text"], start=s["start"], duration=s["end"] - s["start"], words=words_within(sample["words"], s)
        )
        for s in sample["sentences"]
    ]
    request = REQUEST.model_copy(update={"clip_duration_seconds": float(seconds), "clip_count": count})
    edl = select(segments, request=request)
    for highlight in sample["highlights"]:
        inside = [overlap(clip.segments[0], highlight) / clip.duration for clip in edl.clips]
        assert max(inside) > 0.9, (highlight, [(c.segments[0].start, c.title) for c in edl.clips])


def words_within(words: list[dict], sentence: dict) -> list[Word]:
    return [Word(**w) for w in words if sentence["start"] - 1e-6 <= w["start"] < sentence["end"]]


def overlap(span, highlight: dict) -> float:
    return min(span.end, highlight["end"]) - max(span.start, highlight["start"])


def test_a_clip_is_titled_with_the_word_lists_of_its_language(segments):
    def named(segments, language):
        one = REQUEST.model_copy(update={"clip_count": 1})
        return [(clip.title, clip.hook) for clip in select(segments, request=one, language=language).clips]

    story = segments[10:14]
    spoken = [segment.model_copy(update={"language": "en"}) for segment in story]
    assert named(spoken, "es") == named(story, "en")
    assert named(story, "es") != named(story, "en")


def test_the_same_input_gives_the_same_edl(segments):
    assert select(segments) == select(segments)


def test_sound_is_measured_if_present(segments, tmp_path):
    audio = tmp_path / "talk.wav"
    rng = np.random.default_rng(1)
    samples = 0.0005 * rng.standard_normal(int((segments[-1].end + 1) * 16_000))
    for segment in segments:
        inside = slice(int(segment.start * 16_000), int(segment.end * 16_000))
        samples[inside] += 0.2 * np.sin(2 * np.pi * 140 * np.arange(inside.stop - inside.start) / 16_000)
    with wave.open(str(audio), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    edl = select(segments, audio=audio)
    check_edl(edl)
    assert "loudness" in edl.clips[0].signals
    assert edl.clips[0].segments[0].end <= segments[-1].end + 1


def test_unreadable_sound_is_left_out_with_a_warning(segments, tmp_path, caplog):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    with caplog.at_level(logging.WARNING):
        edl = select(segments, audio=broken)
    check_edl(edl)
    assert "Selecting without the sound" in caplog.text


def test_a_heatmap_raises_the_replays_signal(segments):
    heat = [HeatmapPoint(start_time=t, end_time=t + 2, value=float(t > 60)) for t in range(0, 100, 2)]
    edl = select(segments, meta=META.model_copy(update={"heatmap": heat}))
    replayed = max([*edl.clips, *edl.reserve], key=lambda clip: clip.segments[0].start)
    assert replayed.signals["replays"] > 1


@pytest.mark.parametrize(("start", "end"), [(30, 80), (40, None), (None, 50)])
def test_clips_come_from_the_named_part_only(segments, start, end):
    edl = select(segments, request=REQUEST.model_copy(update={"start_seconds": start, "end_seconds": end}))
    everything = [*edl.clips, *edl.reserve]
    assert edl.clips
    whole = {segment.text for segment in segments if segment.start >= (start or 0) and segment.end <= (end or 1e9)}
    for clip in everything:
        text = clip.segments[0].text
        assert text == " ".join(s.text for s in segments if s.text in whole and s.text in text)


def test_tight_clips_last_as_long_as_asked_for_without_what_is_cut_out():
    words, at = [], 0.5
    for number in range(60):
        for token in ("So,", "um,", f"we{number}", "went", f"home{number}."):
            words.append(Word(word=token, start=at, end=at + 0.3))
            at += 0.35 if token != "went" else 1.2
        at += 0.4
    speech = Speech([Segment(text="", start=0.5, duration=at, words=words)], "en")
    request = REQUEST.model_copy(update={"clip_duration_seconds": 15, "clip_count": 4, "tighten": True})
    edl = select_clips(JOB, request, speech, None, META, None, FFMPEG)
    shortest, longest = request.bounds
    assert len(edl.clips) == 4
    for clip in [*edl.clips, *edl.reserve]:
        drawing = asked_drawing(clip, speech, request)
        assert clip.duration > longest
        assert shortest <= drawing.clip.duration <= longest
        assert "um" not in [word.word.strip(",").lower() for word in drawing.words]
        said = " ".join(span.text for span in drawing.clip.segments)
        assert unspoken_words(f"{clip.title} {clip.hook}", said) == []
        assert left_out(clip, SourceWords.of(speech)) == pytest.approx(clip.duration - drawing.clip.duration)


def test_a_topic_chooses_and_the_selection_says_how(segments):
    edl = select(segments, request=REQUEST.model_copy(update={"clip_count": 1, "topic": "the captains"}))
    assert "captain" in edl.clips[0].segments[0].text
    assert edl.selection.model_dump(mode="json")["topic"] == {
        "topic": "the captains", "by": "terms", "terms": {"captains": 1}, "clips": 1,
    }  # fmt: skip
    assert not [note for note in edl.notes if "mention" in note]


def test_a_topic_that_nobody_mentions_is_a_warning(segments):
    plain, edl = select(segments), select(segments, request=REQUEST.model_copy(update={"topic": "submarines"}))
    assert "nobody mentions “submarines”; the clips were chosen without it" in edl.notes
    assert [clip.segments for clip in edl.clips] == [clip.segments for clip in plain.clips]
    assert "topic" not in plain.model_dump(mode="json")["selection"]


def test_a_topic_that_too_few_clips_are_about_is_a_warning(segments):
    edl = select(segments, request=REQUEST.model_copy(update={"topic": "captain"}))
    assert "only 1 of 2 clips mention “captain”" in edl.notes


def test_a_part_with_too_little_speech_is_named_with_what_to_do(segments):
    with pytest.raises(
        TooShort, match=r"Between 0:30 and 0:41, the video has \d+ seconds? of whole sentences"
    ) as short:
        select(segments, request=REQUEST.model_copy(update={"start_seconds": 30.0, "end_seconds": 41.0}))
    assert short.value.next_step == "Choose a longer part of the video, or shorter clips."


def test_a_transcript_without_words_is_no_speech():
    with pytest.raises(NoSpeech):
        select([])
    with pytest.raises(NoSpeech):
        select([Segment(text=" ", start=0, duration=9)])


def test_a_transcript_with_too_few_words_is_too_short(segments):
    with pytest.raises(TooShort):
        select(segments[:1])


CUT_SENTENCE = (
    "the corresponding documentation was distributed among departments, "
    "you never know who your worst friends really are, "
    "additional requirements were specified in supplementary regulations, "
    "quarterly expenditures of the committee approximated allocations."
)


def test_a_clip_of_a_cut_sentence_is_titled_with_its_own_words_only():
    words = [Word(word=w, start=i * 0.58, end=i * 0.58 + 0.5) for i, w in enumerate(CUT_SENTENCE.split())]
    talk = [Segment(text=CUT_SENTENCE, start=0, duration=words[-1].end, words=words)]
    edl = select(talk, request=REQUEST.model_copy(update={"clip_duration_seconds": 10.0}))
    everything = [*edl.clips, *edl.reserve]
    assert len(everything) > 1
    for clip in everything:
        assert unspoken_words(f"{clip.title} {clip.hook}", clip.segments[0].text) == []


def test_a_clip_without_a_usable_word_still_has_a_title():
    words = [Word(word="the", start=i * 0.4, end=i * 0.4 + 0.3) for i in range(60)]
    edl = select([Segment(text="", start=0, duration=24, words=words)])
    assert edl.clips
    assert all(clip.title == f"Clip {clip.index}" for clip in edl.clips), "the source's title is not said in the clip"


class Endpoint(BaseHTTPRequestHandler):
    """A chat endpoint that replies with `server.answer(candidates)`."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        offered = json.loads(body["messages"][1]["content"])["candidates"]
        status, content = self.server.answer(offered)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        raw = json.dumps(reply if status == 200 else {"error": {"message": content}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def endpoint():
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def llm_options(endpoint) -> LlmOptions:
    base = f"http://user:pass@127.0.0.1:{endpoint.server_port}/v1"
    return LlmOptions(model="m", api_base=base, api_key=SecretStr("sk-secret"), timeout_seconds=60)


def pick_named(offer, title):
    return {"id": offer["id"], "titles": [title], "hook": "", "description": "D.", "hashtags": ["talk"]}


def test_the_llm_reorders_and_titles_clips(segments, endpoint):
    def reverse(offered):
        last = offered[-1]
        title = " ".join(last["transcript"].split()[2:6])
        return 200, json.dumps({"clips": [pick_named(last, title), pick_named(offered[0], "No word of it")]})

    endpoint.answer = reverse
    plain, edl = select(segments), select(segments, llm=llm_options(endpoint))
    check_edl(edl)
    assert edl.selection.mode == "llm"
    assert edl.selection.endpoint == f"127.0.0.1:{endpoint.server_port}"
    assert edl.selection.model == "openai/m"
    offered = [*plain.clips, *plain.reserve]
    assert edl.clips[0].segments == offered[-1].segments
    assert edl.clips[0].hashtags == ["talk"]
    assert edl.clips[1].segments == offered[0].segments
    assert edl.clips[1].title == offered[0].title, "a title about nothing said is replaced"
    assert "pass" not in edl.model_dump_json()


def test_an_llm_title_with_an_unspoken_word_is_replaced_and_the_selection_says_so(segments, endpoint):
    endpoint.answer = lambda offered: (
        200,
        json.dumps({"clips": [pick_named(o, "The piano of Napoleon and the captain") for o in offered[:2]]}),
    )
    edl = select(segments, llm=llm_options(endpoint))
    check_edl(edl)
    assert edl.selection.mode == "llm"
    assert "2 of 2 picks had a title with a word that nobody says" in edl.selection.reason
    assert [clip.title for clip in edl.clips] == [clip.title for clip in select(segments).clips]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda offered: (500, "boom sk-secret"), "500"),
        (lambda offered: (200, "{}"), "JSON"),
        (lambda offered: (200, json.dumps({"clips": [pick_named({"id": "w77"}, "The piano")]})), "no offered window"),
    ],
)
def test_a_failing_llm_leaves_the_choice_to_the_signals(segments, endpoint, answer, reason):
    endpoint.answer = answer
    edl = select(segments, llm=llm_options(endpoint))
    check_edl(edl)
    assert edl.selection.mode == "heuristic"
    assert reason in edl.selection.reason
    assert "sk-secret" not in edl.model_dump_json()
    plain = select(segments)
    assert (edl.clips, edl.reserve) == (plain.clips, plain.reserve)


def test_missing_picks_are_filled_by_the_signals(segments, endpoint):
    def answer(offered):
        clauses = standing_alone(re.split(r"(?<=[.!?]) ", offered[1]["transcript"]), word_lists("en"))
        title = next(clause.text for clause in clauses if len(clause.text) <= MAX_TITLE_CHARS)
        return 200, json.dumps({"clips": [pick_named(offered[1], title)]})

    endpoint.answer = answer
    edl = select(segments, llm=llm_options(endpoint))
    check_edl(edl)
    assert edl.selection.mode == "llm"
    assert edl.selection.reason == "valid picks: 1 of 2; signals chose the rest"
