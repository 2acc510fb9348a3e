"""What the editor's preview is told of a clip's log."""

import pytest

from tasks.core.edit.camera_views import LoggedClip, camera_views
from tasks.core.edit.document import EditClip, EditSegment

CLIP = EditClip(id="clip-1", segments=[EditSegment(start=0, end=10)])
KEY = {"t": 0, "x": 320, "y": 0}


def views(**shot: object):
    log = LoggedClip.model_validate({"index": 1, "shots": [{"start": 0, "end": 10, "layout": "fit", **shot}]})
    return camera_views(CLIP, log, (1280, 720))


def test_a_part_that_was_fitted_in_is_told_and_the_whole_picture_has_no_place():
    (part,) = views(crop_width=640, crop_height=720, keys=[KEY])
    assert (part.layout, part.width, part.height) == ("fit", 0.5, 1)
    assert [(key.x, key.y) for key in part.keys] == [(0.25, 0)]
    (whole,) = views()
    assert (whole.layout, whole.width, whole.height, whole.keys) == ("fit", 1, 1, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_width": 640, "crop_height": 720, "keys": []},
        {"crop_width": 640, "crop_height": 0, "keys": [KEY]},
        {"crop_width": -640, "crop_height": 720, "keys": [KEY]},
        {"crop_width": 1000, "crop_height": 720, "keys": [KEY]},
        {"crop_width": 640, "crop_height": 720, "keys": [KEY | {"x": -50}]},
    ],
)
def test_a_part_that_cannot_have_been_fitted_in_is_left_out(wrong):
    assert views(**wrong) == []
