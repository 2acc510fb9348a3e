"""Clips as the API returns them for a finished job."""

CLIPS = [
    {
        "file": "clip_01.mp4",
        "poster": "/api/jobs/kk_x/clips/clip_01.jpg",
        "subtitles": {"srt": "/api/jobs/kk_x/clips/clip_01.srt", "vtt": "/api/jobs/kk_x/clips/clip_01.vtt"},
        "title": "A thing that you cannot open is not yours",
        "hook": "You carry a phone that you cannot open.",
        "duration": 38.4,
        "start": 62.0,
        "end": 100.4,
        "description": "Why the right to open what you own matters more than any feature.",
        "hashtags": ["repair", "ownership"],
        "text": "You carry a phone that you cannot open. You drive a car that you cannot fix. "
        "They tell you that this is the future. I think it is the opposite.",
        "why": "Stands out for opening, second person, low rare words.",
        "scores": {"opening": 2.4, "second_person": 1.9, "rare_words": -1.2, "pauses": 0.8, "loudness": -0.6},
    },
    {
        "file": "clip_02.mp4",
        "title": "Walter came in one night with a toaster under his arm",
        "hook": "It was raining, and he was not smiling.",
        "duration": 43.1,
        "start": 411.5,
        "end": 454.6,
        "description": "",
        "hashtags": [],
        "text": "Walter came in one night with a toaster under his arm. It was raining, and he was not smiling.",
        "why": "Stands out for dialogue, short sentences, audience.",
        "scores": {"dialogue": 2.9, "short_sentences": 1.4, "reaction": 1.1, "topic": -0.4},
    },
    {
        "file": "clip_03.mp4",
        "title": "Nobody ever let you try",
        "hook": "You are not bad with your hands.",
        "duration": 40.7,
        "start": 3725.0,
        "end": 3765.7,
        "text": "You are not bad with your hands. Nobody ever let you try.",
        "why": "No signal stands out; it is the best window that is left.",
        "scores": {"completeness": 0.9, "claim": 0.3},
    },
]
