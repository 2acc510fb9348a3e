"""Draws the sample's picture: a speaker cut out of a public-domain portrait, walking on a drawn stage.

The portrait is NASA's picture of astronaut Eileen Collins, which ships with scikit-image. Needs
scikit-image (for that file), opencv, numpy, Pillow and fontpkg-poppins.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, FPS = 1280, 720, 25
SCREEN_TOP = 50

FACE_X, FACE_Y, FACE_W, FACE_H = 222.8, 119.5, 89.9, 113.3
"""Centre and size of the face in pixels of the portrait, as YuNet detects it."""

MOUTH_Y, LIP_Y, CHIN_Y = 141.0, 150.0, 190.0
"""Rows of the portrait between which the mouth opens; the chin moves along, the neck does not."""

Picture = npt.NDArray[np.uint8]
Layer = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How a shot shows the speaker.

    `scale` is the size of a portrait pixel in frame pixels at the shot's start and end, `face_y` the row
    of the face's centre, and `walk` the points (share of the shot, column of the face's centre) between
    which the speaker moves smoothly. `screen` is the left edge of the projected slide.
    """

    scale: tuple[float, float]
    face_y: float
    walk: tuple[tuple[float, float], ...]
    screen: int | None = None


VIEWS = {
    "left": View((1.2, 1.2), 268, ((0, 300), (0.15, 300), (0.5, 430), (0.7, 430), (1, 320)), 690),
    "right": View((1.2, 1.2), 268, ((0, 900), (0.3, 900), (0.7, 780), (1, 780)), 60),
    "close": View((1.75, 1.85), 300, ((0, 620), (0.3, 620), (0.6, 690), (1, 640))),
    "walk": View((1.3, 1.3), 280, ((0, 340), (0.1, 340), (0.45, 760), (0.6, 760), (1, 480))),
}


@dataclass(frozen=True)
class FaceKey:
    """The face's centre and size in the frame; they change linearly between two keys of a shot."""

    t: float
    x: float
    y: float
    w: float
    h: float


def face_keys(view: View, first: int, last: int) -> list[FaceKey]:
    """Keys at every fifth frame and at the last; `first` and `last` are frame numbers of the shot."""
    frames = [*range(first, last, 5), last]
    shares = (np.array(frames) - first) / max(1, last - first)
    scales = np.interp(shares, (0, 1), view.scale)
    columns = np.array([place_at(view, share) for share in shares])
    return [
        FaceKey(frame / FPS, float(x), view.face_y, float(FACE_W * s), float(FACE_H * s))
        for frame, x, s in zip(frames, columns, scales, strict=True)
    ]


def place_at(view: View, share: float) -> float:
    for (begin, start), (finish, end) in zip(view.walk, view.walk[1:], strict=False):
        if share <= finish:
            u = (share - begin) / (finish - begin)
            return start + (end - start) * u * u * (3 - 2 * u)
    return view.walk[-1][1]


def draw(t: float, face: tuple[float, float, float] | None, screen: Picture | None, left: int, mouth: float) -> Picture:
    """One BGR frame. `face` is (x, y, scale); `mouth` is its opening, 0 to 1."""
    frame = hall(t).copy()
    if screen is not None:
        height, width = screen.shape[:2]
        frame[SCREEN_TOP : SCREEN_TOP + height, left : left + width] = screen
    if face is not None:
        paste(frame, speaker(round(mouth * 12)), *face)
    return frame


def hall(t: float) -> Picture:
    """Curtains, a floor and a soft light that crosses the stage and returns every 40 s."""
    shift = round(240 + 240 * np.sin(2 * np.pi * t / 40))
    return lit_hall(shift // 4 * 4)


@cache
def lit_hall(shift: int) -> Picture:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    folds = 6 * np.sin(x / 23) + 3 * np.sin(x / 9.7 + 1)
    light = 46 * np.exp(-(((x - 400 - shift) / 420) ** 2) - ((y - 260) / 330) ** 2)
    shade = np.where(y < 610, folds + light, 0.5 * light - 12)
    tint = np.array([62, 40, 30], np.float32) + shade[..., None] * np.array([1.0, 0.8, 0.66], np.float32)
    return np.clip(tint, 0, 255).astype(np.uint8)


def paste(frame: Picture, layer: Layer, x: float, y: float, scale: float) -> None:
    """Lay the cut-out (premultiplied BGRA) over `frame` with the face's centre at (x, y), to a fraction of a pixel."""
    move = np.array([[scale, 0, x - FACE_X * scale], [0, scale, y - FACE_Y * scale]])
    left, right = max(0, int(move[0, 2])), min(WIDTH, int(move[0, 2] + 512 * scale) + 2)
    top = max(0, int(move[1, 2]))
    move[:, 2] -= (left, top)
    placed = cv2.warpAffine(layer, move, (right - left, HEIGHT - top), flags=cv2.INTER_CUBIC)
    under = frame[top:, left:right]
    under[:] = np.clip(under * (1 - placed[..., 3:]) + placed[..., :3], 0, 255).astype(np.uint8)


@cache
def speaker(step: int) -> Layer:
    """The cut-out with its mouth `step` twelfths open: the rows from lip to chin move down, by 4 px at most."""
    layer = cut_out()
    y, x = np.mgrid[0:512, 0:512].astype(np.float32)
    across = np.exp(-(((x - FACE_X) / 34) ** 4))
    rows = np.array([0, MOUTH_Y, LIP_Y, CHIN_Y, 512])
    down = 4.0 * step / 12 * np.interp(y, rows, (0, 0, 1, 0, 0)).astype(np.float32) * across
    return np.asarray(cv2.remap(layer, x, y - down, cv2.INTER_CUBIC), np.float32)


@cache
def cut_out() -> Layer:
    """The portrait without its background, as premultiplied BGRA with values 0 to 255 and alpha 0 to 1."""
    portrait = cv2.imread(str(files("skimage").joinpath("data", "astronaut.png")))
    assert portrait is not None
    mask = np.full(portrait.shape[:2], cv2.GC_BGD, np.uint8)
    outline = (
        "145,10 310,10 312,150 320,230 370,300 380,335 470,335 512,420 512,512 10,512 10,450 30,280 105,200 145,140"
    )
    inside = (
        "170,60 200,30 255,25 285,60 285,90 272,110 262,130 256,150 256,175 290,220 300,260 330,290 345,350 300,400"
        " 285,511 60,511 50,450 60,300 130,220 150,175 185,170 187,150 180,125 172,100"
    )
    cv2.fillPoly(mask, [corners(outline)], cv2.GC_PR_FGD)
    cv2.fillPoly(mask, [corners(inside)], cv2.GC_FGD)
    cv2.ellipse(mask, (385, 440), (95, 85), 0, 0, 360, cv2.GC_FGD, -1)
    for gap in ("170,128 183,126 187,152 178,150", "276,124 264,134 258,152 260,172 274,178"):
        cv2.fillPoly(mask, [corners(gap)], cv2.GC_BGD)
    cv2.setRNGSeed(1)
    cv2.grabCut(portrait, mask, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 8, cv2.GC_INIT_WITH_MASK)
    kept = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(kept)
    body = (labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).astype(np.float32)
    alpha = cv2.GaussianBlur(cv2.erode(body, np.ones((3, 3))), (0, 0), 1.1)
    return np.dstack([portrait * alpha[..., None], alpha]).astype(np.float32)


def corners(text: str) -> npt.NDArray[np.int32]:
    return np.array([pair.split(",") for pair in text.split()], np.int32)


@cache
def slide(lines: tuple[str, ...], width: int) -> Picture:
    """A 16:9 slide with number, title and points."""
    height = width * 9 // 16
    image = Image.new("RGB", (width, height), (236, 238, 242))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, width // 60, height), fill=(232, 96, 44))
    number, title, *points = lines
    margin = width // 12
    pen.text((margin, height * 0.10), number, font=font("Bold", width // 22), fill=(232, 96, 44))
    pen.text((margin, height * 0.20), title, font=font("Bold", width // 14), fill=(28, 32, 48))
    for row, point in enumerate(points):
        pen.text((margin, height * (0.42 + 0.15 * row)), point, font=font("Medium", width // 20), fill=(60, 66, 84))
    return np.asarray(image)[:, :, ::-1]


@cache
def font(weight: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(files("fontpkg_poppins").joinpath("files", f"Poppins-{weight}.ttf")), size)
