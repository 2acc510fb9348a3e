"""TRANSCRIPT shares what was recognised, and who spoke it once that could be told."""

import pytest

from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore
from tasks.core.request import ClipRequest
from tasks.core.transcript import TRANSCRIPT_JSON
from tasks.engines.probe import probe
from tasks.engines.weights import WeightsMissing
from tests.folders import MEDIA
from tests.small_media import ffmpeg

REQUEST = ClipRequest(video_url="https://example.org/talk")


@pytest.fixture(scope="module")
def source(store, tmp_path_factory):
    """A dialog of two synthetic voices."""
    from tasks.records import SourceRecord

    path = tmp_path_factory.mktemp("dialog") / "dialog.wav"
    parts = "[0:a]atrim=0:12[a];[1:a]atrim=0:14[b];[a]aresample=16000[c];[b]aresample=16000[d];[c][d]concat=v=0:a=1"
    ffmpeg("-i", MEDIA / "short.mp4", "-i", MEDIA / "voices" / "chant.opus", "-filter_complex", parts, "-ac", 1, path)
    info = probe(MEDIA / "short.mp4")
    audio = store.put_file(f"cache/media/{new_job_id()}.wav", path)
    return SourceRecord(artifacts={"video": audio, "audio": audio}, info=info)


def test_who_speaks_is_found_out_later_if_it_could_not_be_at_first(stack, store, source, monkeypatch):
    stack.apply()
    from tasks.options import SpeechOptions
    from tasks.stages import transcribe as stage
    from tasks.transcribe import transcribe

    def transcript():
        job = new_job_id()
        JobStore.from_settings(stack.settings).create(job, REQUEST.model_dump_json())
        record = transcribe.fn(JobRef(job_id=job), "auto", SpeechOptions(model="base", beam_size=1), source)
        segments = TRANSCRIPT_JSON.validate_python(store.get_json(record.artifacts["transcript"].key))
        return record, {word.speaker for segment in segments for word in segment.words}

    def missing():
        raise WeightsMissing("Not installed.")

    with monkeypatch.context() as without:
        without.setattr(stage, "speaker_weights", missing)
        record, speakers = transcript()
        assert (record.reused, speakers) == (False, {None})
        assert record.warnings[-1].startswith("speakers are not told apart")
    record, speakers = transcript()
    assert (record.reused, speakers) == (True, {1, 2})
    assert not any("told apart" in warning for warning in record.warnings)

    def unwanted(*_):
        raise AssertionError("heard again")

    monkeypatch.setattr("tasks.transcribe.tell_speakers_apart", unwanted)
    record, speakers = transcript()
    assert (record.reused, speakers) == (True, {1, 2})
    assert not any("told apart" in warning for warning in record.warnings)
