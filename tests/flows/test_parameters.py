"""Bad parameters of a run started in the Prefect UI end it with one clear sentence."""

import pytest

URL = "https://example.org/talk.mp4"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "The request is invalid: video_url is required. Correct it and run it again."),
        ({"video_url": "ftp://example.org/v"}, "video_url must be an http or https address such as"),
        ({"video_url": URL, "clip_count": 11}, "clip_count must be a whole number from 1 to 10."),
        ({"video_url": URL, "language": "indonesian"}, "must be auto or a Whisper code such as en; did you mean id?"),
        ({"video_url": URL, "clip_duration_seconds": 20, "min_clip_seconds": 30}, "must not exceed"),
        ({"video_url": URL, "min_clip_seconds": 1}, "min_clip_seconds must be a number from 3 to 180."),
        ({"video_url": URL, "ratio": "2:1"}, "ratio must be 9:16, 4:5, 1:1 or 16:9."),
        (
            {"video_url": URL, "caption_preset": "bold"},
            "caption_preset must be classic, punch, word, box, label or reveal.",
        ),
        ({"video_url": URL, "start_seconds": -1, "end_seconds": None}, "start_seconds must be a number from 0 to"),
    ],
)
def test_a_bad_request_fails_the_run_with_one_sentence(stack, caplog, request_, message):
    from flows.clip import clip

    ended = clip(request_, return_state=True)
    assert ended.is_failed()
    assert message in ended.message
    assert "\n" not in ended.message
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"job_id": 5}, "job_id must be kk_"),
        ({"job_id": "kk_1"}, "job_id must be kk_"),
        ({"attempt": "2"}, "attempt must"),
    ],
)
def test_a_bad_job_id_or_attempt_fails_the_run(stack, named, message):
    from flows.clip import clip

    ended = clip({"video_url": URL}, **named, return_state=True)
    assert ended.is_failed()
    assert message in ended.message


def test_a_bad_batch_request_fails_and_names_every_fault(stack):
    from flows.batch import batch

    ended = batch({"feed": "https://example.org/feed.xml", "language": "xx", "depths": 3}, return_state=True)
    assert ended.is_failed()
    assert "language must be auto or a Whisper code" in ended.message
    assert "depths is not a known field" in ended.message
