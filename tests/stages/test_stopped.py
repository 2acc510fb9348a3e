"""The kill of a program is not blamed on the video, the clip or the GPU."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest

from infra.errors import MachineError
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.core.edit.drawing import Drawing
from tasks.core.edl import EdlClip, Span
from tasks.core.errors import ProgramStopped
from tasks.core.media import SourceMeta
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.core.output.source_match import SoundLevels, SourceExcerpt
from tasks.core.request import ClipRequest
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines import ffmpeg as engine
from tasks.engines import hardware
from tasks.engines.choice import prosody
from tasks.engines.ffmpeg import EncoderChoice, run, stop_all
from tasks.engines.output.measurements import measure_clip
from tasks.engines.probe import probe
from tasks.engines.sound import loudness
from tasks.engines.source import demux
from tasks.engines.speech import pcm
from tasks.stages import framing
from tasks.stages import render as stage
from tasks.stages.publish import verify_clips
from tasks.stages.render import FailedClip, RenderedClip, render_clip, render_clips
from tasks.stages.select import select_clips
from tasks.workspace import stage_workspace
from tests.small_media import clip as small_clip
from tests.small_media import drawing, footage

OPTIONS = RenderOptions(width=180, height=320, preset="ultrafast", parallel=2)
CLIPS = [EdlClip(index=i, title="t", hook="h", segments=[Span(start=i, end=i + 1, text="t, h")]) for i in (1, 2)]
DRAWINGS = [drawing(clip) for clip in CLIPS]
WORDS = [Word(word=f"word{i}", start=i * 0.4, end=i * 0.4 + 0.3) for i in range(60)]
UNSEEN = SourceExcerpt(sound=SoundLevels(channels=[], mono=[]), frames=[])
ENDLESS = ["-f", "lavfi", "-re", "-i", "testsrc=s=64x64", "-f", "null", "-"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("stopped") / "a.mp4", 4)


@pytest.fixture
def dying_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ffmpeg that works briefly and then kills itself."""
    path = tmp_path / "mortal"
    path.write_text(f'#!/bin/sh\n{engine.ffmpeg_exe()} "$@" | head -c 30000\nkill -9 $$\n')
    path.chmod(0o700)
    for module in (engine, framing):
        monkeypatch.setattr(module, "ffmpeg_exe", lambda: str(path))
    monkeypatch.setattr(engine, "_has_cuda", lambda: True)
    return str(path)


def first_sound(video: Path) -> demux.Sound:
    return demux.Sound(probe(video).tracks[0])


Task = Callable[[Path, Path, str], object]
TASKS: dict[str, Task] = {
    "copy of the sound": lambda video, out, exe: demux.extract_audio(
        video, probe(video), first_sound(video), out / "a.m4a"
    ),
    "encoding of the sound": lambda video, out, exe: demux._transcode(video, first_sound(video), out / "a.m4a", ""),
    "copy of the source": lambda video, out, exe: demux.make_seekable(
        video, probe(video).model_copy(update={"container": "mpegts"}), first_sound(video), out
    ),
    "loudness": lambda video, out, exe: loudness.plan_loudness(video, [(0, 2)]),
    "loudness of it all": lambda video, out, exe: loudness.integrated(video),
    "delivery": lambda video, out, exe: prosody.measure_delivery(video, exe),
    "decoding for Whisper": lambda video, out, exe: list(pcm.blocks(video, exe, 1, 0.1)),
    "measure of a clip": lambda video, out, exe: measure_clip(video, UNSEEN),
    "one frame on NVENC": lambda video, out, exe: engine.nvenc_works.__wrapped__(),
    "one frame decoded on the GPU": lambda video, out, exe: engine.hwaccel.__wrapped__(video),
    "render": lambda video, out, exe: render_clips(
        DRAWINGS, lambda drawing, tell: render_clip(drawing, footage(video), OPTIONS, out, tell), 2, lambda share: None
    ),
    "selection": lambda video, out, exe: select_clips(
        "kk",
        ClipRequest(video_url="http://a.example/", clip_duration_seconds=5, clip_count=1),
        Speech([Segment(text="", start=0, duration=24, words=WORDS)], "en"),
        video,
        SourceMeta(source_id="s", kind="local_file"),
        None,
        exe,
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_killed_ffmpeg_is_not_blamed_on_media_or_gpu(name: str, video: Path, tmp_path: Path, dying_ffmpeg: str):
    with pytest.raises(ProgramStopped, match="signal 9"):
        TASKS[name](video, tmp_path, dying_ffmpeg)


def test_a_killed_ffmpeg_is_the_machines_fault_at_the_stages_border(
    servers, video: Path, dying_ffmpeg: str, monkeypatch: pytest.MonkeyPatch
):
    """A MachineError is transient: the stage is retried, and then the job."""
    for name, value in servers.environment().items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(MachineError, match="killed by signal 9"),
        stage_workspace(JobRef(job_id=new_job_id()), Stage.RENDER),
    ):
        measure_clip(video, UNSEEN)
    assert MachineError.is_transient


def test_a_clip_whose_measurement_is_killed_is_neither_dropped_nor_replaced(video: Path, tmp_path: Path, request):
    good = render_clip(DRAWINGS[0], footage(video), OPTIONS, tmp_path)
    request.getfixturevalue("dying_ffmpeg")

    def unwanted(clip: EdlClip, correction: Correction) -> RenderedClip:
        raise AssertionError("rendered again")

    with pytest.raises(ProgramStopped):
        verify_clips([good], unwanted, [CLIPS[1]], OPTIONS)


def test_a_replacement_whose_render_is_killed_is_not_dropped(video: Path, tmp_path: Path, dying_ffmpeg: str):
    def mortally(clip: EdlClip, correction: Correction) -> RenderedClip:
        return render_clip(drawing(clip), footage(video), OPTIONS, tmp_path)

    with pytest.raises(ProgramStopped):
        verify_clips([FailedClip(clip=CLIPS[0], reason="damaged")], mortally, [CLIPS[1]], OPTIONS)


def test_a_stopped_gpu_encode_is_not_repeated_on_the_cpu():
    drawn: list[str] = []

    def draw(encoder: EncoderChoice, decoder: dict[str, str]) -> Never:
        drawn.append(encoder.name)
        run(ENDLESS, 60)
        raise AssertionError

    stopper = threading.Thread(target=stop_first_program)
    stopper.start()
    with pytest.raises(ProgramStopped):
        stage._draw_on_gpu_or_cpu(draw, EncoderChoice("h264_nvenc", "believed in"), {"hwaccel": "cuda"})
    stopper.join()
    assert drawn == ["h264_nvenc"]


def stop_first_program(seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not engine._running and time.monotonic() < deadline:
        time.sleep(0.01)
    stop_all()


def test_an_interrupted_render_starts_no_further_program(monkeypatch: pytest.MonkeyPatch):
    """One clip hits a bug while the other is between two runs of ffmpeg, of which the second must not run."""
    begun, stopped = threading.Event(), threading.Event()

    def stop_and_tell() -> None:
        stop_all()
        stopped.set()

    def make(drawing: Drawing, *rest: object, **more: object) -> RenderedClip:
        if drawing.clip.index == 1:
            begun.wait(20)
            raise ZeroDivisionError
        begun.set()
        assert stopped.wait(20)  # past the first stop
        run(ENDLESS, 60)
        raise AssertionError

    monkeypatch.setattr(stage, "stop_all", stop_and_tell)
    began, stopping = time.monotonic(), threading.Event()
    with pytest.raises(ZeroDivisionError):
        render_clips(DRAWINGS, make, 2, lambda share: None, stopping)
    assert stopping.is_set()
    assert time.monotonic() - began < 30


def test_a_killed_nvidia_smi_is_not_read_as_a_missing_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ProgramStopped):
        hardware._free_gpu_bytes()
