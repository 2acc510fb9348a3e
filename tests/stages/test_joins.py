"""Clips with words cut out: what is heard in them, how their parts join, and whether picture and sound stay together.

Words are cut out at the times that Whisper gives them, as in a job, and the clips are transcribed again.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.edit.document import EditDocument, first_revision, transcript_words
from tasks.core.edit.drawing import derived_edl, drawings
from tasks.core.edl import EdlClip, Span
from tasks.core.output.render_plan import RenderOptions
from tasks.core.speech.writing_systems import TOKEN
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines.hardware import AsrOptions
from tasks.engines.speech.whisper import Recogniser, transcribe_with
from tasks.stages.render import RenderedClip, render_clip
from tests.folders import MEDIA
from tests.small_media import ffmpeg, footage

pytestmark = pytest.mark.long

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
OPTIONS = RenderOptions(width=108, height=192, preset="ultrafast")
TALK = MEDIA / "short.mp4"
START, END = 0.0, 24.4
RATE = 48_000
NEAR = round(0.012 * RATE)
"""Samples on each side of a join that belong to it: the fades last 10 ms."""


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(AsrOptions(cache=tmp_path_factory.mktemp("weights"), model="base", device="cpu"))


@pytest.fixture(scope="module")
def talk(recogniser: Recogniser) -> Speech:
    """The words of the short sample, at the times that a job would have."""
    return Speech(transcribe_with(recogniser, TALK, FFMPEG, lambda *_: None, "en").segments, "en")


def made(source: Path, speech: Speech, span: tuple[float, float], out: Path, **changes: Any) -> RenderedClip:
    """The only clip of a document with these changes, drawn."""
    start, end = span
    chosen = EdlClip(index=1, title="", hook="", segments=[Span(start=start, end=end)])
    content = first_revision([chosen], "a" * 64, transcript_words(speech.segments)).model_dump(mode="json")
    content["clips"][0] |= {"segments": [{"start": start, "end": end, "framing": {"kind": "fit"}}], **changes}
    document = EditDocument.model_validate(content)
    (drawing,) = drawings(document, derived_edl(document, [chosen], speech), speech)
    return render_clip(drawing, footage(source), OPTIONS, out)


def letters(text: str) -> str:
    return "".join(TOKEN.findall(text.lower()))


def places(speech: Speech, phrase: str) -> list[int]:
    """The indices of the words of a phrase that is said once."""
    said, wanted = [letters(word.word) for word in transcript_words(speech.segments)], phrase.split()
    (first,) = [at for at in range(len(said)) if said[at : at + len(wanted)] == wanted]
    return list(range(first, first + len(wanted)))


def heard(clip: RenderedClip, recogniser: Recogniser) -> str:
    result = transcribe_with(recogniser, clip.path, FFMPEG, lambda *_: None, "en")
    return " ".join(letters(word.word) for word in transcript_words(result.segments))


def sound(clip: RenderedClip) -> npt.NDArray[np.float32]:
    with av.open(str(clip.path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def joins(clip: RenderedClip) -> list[float]:
    """Seconds of the clip at which two parts meet."""
    return list(accumulate(span.duration for span in clip.clip.segments))[:-1]


def clicks(samples: npt.NDArray[np.float32], times: Sequence[float]) -> list[float]:
    """The joins with a second difference above that of the speech within half a second of them."""
    bend, at = np.abs(np.diff(samples, 2)), [round(t * RATE) for t in times]
    speech = bend.copy()
    for join in at:
        speech[join - NEAR : join + NEAR] = 0
    return [
        join / RATE
        for join in at
        if bend[join - NEAR : join + NEAR].max() > speech[max(join - RATE // 2, 0) : join + RATE // 2].max()
    ]


STRUCK = ["i do not mean use it", "that you cannot open you", "only"]
"""A sentence; the end of one and the beginning of the next; a word in the middle of fluent speech."""


@pytest.fixture(scope="module")
def struck(talk: Speech, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    removed = [index for phrase in STRUCK for index in places(talk, phrase)]
    return made(TALK, talk, (START, END), tmp_path_factory.mktemp("struck"), words={"removed": removed})


def test_words_struck_out_are_not_heard_and_their_neighbours_are(struck: RenderedClip, recogniser: Recogniser):
    said = heard(struck, recogniser)
    for left in ("that you own i mean open it you carry", "carry a phone drive a car", "you are renting it and nobody"):
        assert left in said


@pytest.fixture(scope="module")
def tight(talk: Speech, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    """A tight clip of a talk in which two words are taken for fillers, which the sample has not."""
    (um,), (uh,) = places(talk, "and nobody")[:1], places(talk, "you are only")[2:]
    renamed = {um: "um,", uh: "Uh"}
    words = [
        word.model_copy(update={"word": renamed.get(index, word.word)})
        for index, word in enumerate(transcript_words(talk.segments))
    ]
    speech = Speech([Segment(text="", start=0, duration=38, words=words)], "en")
    return made(TALK, speech, (START, END), tmp_path_factory.mktemp("tight"), tighten=True)


def test_filler_words_and_pauses_are_not_heard_and_all_else_is(tight: RenderedClip, recogniser: Recogniser):
    said = heard(tight, recogniser)
    assert "not yours you are renting it nobody told you the price" in said
    assert said.startswith("when did you last open a thing that you own i do not mean use it i mean open it")
    assert END - START - tight.clip.duration > 0.8


@pytest.mark.parametrize("name", ["struck", "tight"])
def test_joins_do_not_click(request: pytest.FixtureRequest, name: str):
    clip: RenderedClip = request.getfixturevalue(name)
    assert len(joins(clip)) >= 3
    assert clicks(sound(clip), joins(clip)) == []


PERIOD, PULSE = 0.7, 0.1
"""Seconds from one flash with a tone to the next, and its length."""


def test_lips_and_sound_stay_within_40_ms_from_the_first_join_to_the_end(tmp_path: Path):
    """Each flash with a tone lies in a word that stays; the word after it is struck out. NTSC frames fit no cut."""
    during, seconds = rf"between(mod(t\,{PERIOD})\,0.2\,{0.2 + PULSE})", 20 * PERIOD
    picture = f"color=black:s=192x108:r=30000/1001:d={seconds},drawbox=w=iw:h=ih:color=white:t=fill:enable='{during}'"
    tone = f"aevalsrc='0.5*sin(2*PI*1000*t)*{during}+0.001*sin(t)':d={seconds}:s={RATE}"
    source = tmp_path / "a.mp4"
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", source)
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone, *encode)
    words = [
        Word(word=name, start=PERIOD * n + begin, end=PERIOD * n + end)
        for n in range(20)
        for name, begin, end in (("kept", 0.107, 0.381), ("gone", 0.433, 0.651))
    ]
    speech = Speech([Segment(text="", start=0, duration=seconds, words=words)], "en")
    changes = {"words": {"removed": list(range(1, 40, 2))}, "captions": {"shown": False}}
    clip = made(source, speech, (0.0, seconds), tmp_path / "out", **changes)
    assert len(joins(clip)) == 19
    with av.open(str(clip.path)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
        light = [frame.to_ndarray(format="gray")[60:130].mean() > 100 for frame in container.decode(video=0)]
    tones = np.abs(sound(clip)) > 0.05
    heard = np.maximum.reduceat(tones, np.arange(0, len(tones), 240))
    flashes, beeps = onsets(np.array(light)) / rate, onsets(heard) * 240 / RATE
    assert len(flashes) == len(beeps) == 20
    assert np.abs(flashes - beeps).max() <= 0.04


def onsets(on: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(on[1:] & ~on[:-1]) + 1
