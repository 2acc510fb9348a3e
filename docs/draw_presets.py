#!/usr/bin/env python3
"""Draws the pictures of the caption presets for the page's form, from the sample talk.

Run it when a preset has changed; look at what it wrote.
"""

import json
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

from tasks.core.appearance import PresetName
from tasks.core.captions.presets import PRESETS
from tasks.core.edit.document import EditCaptions
from tasks.core.edit.drawing import plain_drawing
from tasks.core.edl import EdlClip, Span
from tasks.core.output.render_plan import RenderOptions
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines.footage import Footage
from tasks.engines.probe import probe
from tasks.stages.render import render_clip

ROOT = Path(__file__).parents[1]
OUT = ROOT / "deployments/api/web/presets"
SAMPLE = ROOT / "tests/media/sample.mp4"
START, END, SHOWN = 12.7, 16.6, 14.95
"""Seconds of the sample: the clip, and the moment in it that is shown."""
ROWS = slice(490, 1610)
"""Rows of a clip that is 1080 by 1920: the face and the captions."""
SIZE = (270, 280)


def picture(name: PresetName) -> np.ndarray:
    """A part of a clip with captions of this preset."""
    words = [Word(**word) for word in json.loads(SAMPLE.with_suffix(".json").read_text())["words"]]
    clip = EdlClip(index=1, title="", hook="", segments=[Span(start=START, end=END)])
    drawing = plain_drawing(clip, Speech([Segment(text="", start=0, duration=180, words=words)], "en"))
    drawing = drawing.model_copy(update={"captions": EditCaptions(preset=name)})
    with tempfile.TemporaryDirectory() as folder:
        made = render_clip(drawing, Footage(SAMPLE, SAMPLE, probe(SAMPLE)), RenderOptions(crf=12), Path(folder))
        with av.open(str(made.path)) as container:
            frames = (frame for frame in container.decode(video=0) if (frame.time or 0.0) >= SHOWN - START)
            whole = next(frames).to_ndarray(format="bgr24")
    return cv2.resize(whole[ROWS], SIZE, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for preset in PRESETS:
        cv2.imwrite(str(OUT / f"{preset}.webp"), picture(preset), [cv2.IMWRITE_WEBP_QUALITY, 72])
