"""The hook as a title card: its lines, its size and where in the picture it lies."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.captions.ass import Typeface, escape, text_width, visible_text
from tasks.core.captions.presets import BOTTOM, SIDE, TOP, Band
from tasks.core.speech.writing_systems import clusters, direction_mark, runs_right_to_left

SECONDS = 3.0
"""How long the card is shown, from the clip's first frame."""
PADDING = 0.45
"""Room between the letters and the card's edge, in em."""
_LARGEST, _SMALLEST, _SHRINK = 0.062, 0.03, 0.92
"""An em as a share of the picture's shorter side: the largest, the smallest, and the step between two sizes."""
_MOST_LINES = 3
_SMALLER = 6
"""Sizes that are tried, so that no face is covered."""
_STEP = 0.005
"""Share of the picture's height between two places that are tried."""


@dataclass(frozen=True)
class Card:
    """Lines of text on a box. `em` is in pixels; `band` is the rows that the box covers."""

    lines: list[str]
    em: float
    band: Band


def lay_out_card(
    text: str, size: tuple[int, int], face: Typeface, faces: Sequence[Band], captions: Band | None
) -> Card | None:
    """The card for a text, or None if there is no room for it or no text.

    It lies as high as it can beside all faces, smaller if need be, or else beside their lower thirds; never over
    captions.

    Args:
        size: width and height of the picture in pixels.
        faces: the rows of each face that is seen while the card is.
        captions: the rows of the captions, or None without any.
    """
    text = visible_text(text)
    if not text:
        return None
    taken = [] if captions is None else [captions]
    mouths = [Band(face.bottom - (face.bottom - face.top) / 3, face.bottom) for face in faces]
    largest = _share(text, size, face)
    tries = [(largest * _SHRINK**step, faces) for step in range(_SMALLER)] + [(largest, mouths)]
    for share, avoided in tries:
        em = share * min(size)
        lines = balanced(text, em, size, face)
        height = (len(lines) * face.line + 2 * PADDING) * em / size[1]
        top = _highest(height, [*taken, *avoided])
        if top is not None:
            return Card(lines, em, Band(top, top + height))
    return None


def _highest(height: float, taken: Sequence[Band]) -> float | None:
    """The highest place for the card in the safe area, outside what is taken."""
    places = int((1 - BOTTOM - TOP - height) / _STEP) + 1
    tops = (TOP + place * _STEP for place in range(places))
    return next((top for top in tops if all(top + height <= band.top or top >= band.bottom for band in taken)), None)


def _share(text: str, size: tuple[int, int], face: Typeface) -> float:
    """The largest em, as a share of the picture's shorter side, at which the text takes few enough lines."""
    share = _LARGEST
    while share > _SMALLEST and len(_wrapped(text, _room(share * min(size), size, face))) > _MOST_LINES:
        share *= _SHRINK
    return share


def _room(em: float, size: tuple[int, int], face: Typeface) -> float:
    """The width of a line in em of Poppins."""
    return ((1 - 2 * SIDE) * size[0] / em - 2 * PADDING) / face.width


def balanced(text: str, em: float, size: tuple[int, int], face: Typeface) -> list[str]:
    """The text in as few lines as possible, of similar width."""
    room = _room(em, size, face)
    lines = narrower = _wrapped(text, room)
    while len(narrower) == len(lines) and room > 1:
        lines, room = narrower, room * _SHRINK
        narrower = _wrapped(text, room)
    return lines


def _wrapped(text: str, room: float) -> list[str]:
    """Lines of at most `room` em, broken between words, or inside a word that is too wide."""
    lines: list[str] = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if text_width(joined) <= room:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in clusters(word):
            if text_width(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def with_card(script: str, card: Card, size: tuple[int, int], face: Typeface, language: str, seconds: float) -> str:
    """The captions' script with a card over its first `seconds`: black on white, above everything else."""
    style = (
        f"Style: Card,{face.name},{round(card.em * face.line)},&H00000000,&H00000000,&H00000000,&H00FFFFFF,"
        f"0,0,0,0,100,100,0,0,4,0.0,{card.em * PADDING:.1f},5,0,0,0,-1\n"
    )
    middle = round(size[1] * (card.band.top + card.band.bottom) / 2)
    place = f"{{\\an5\\pos({size[0] // 2},{middle})}}"
    rtl = runs_right_to_left("".join(card.lines), language)
    text = "\\N".join(direction_mark(line, right_to_left=rtl) + escape(line) for line in card.lines)
    head, events = script.split("\n[Events]\n", 1)
    shown = f"Dialogue: 2,0:00:00.00,0:00:{min(seconds, SECONDS):05.2f},Card,,0,0,0,,{place}{text}\n"
    return f"{head}{style}\n[Events]\n{events}{shown}"
