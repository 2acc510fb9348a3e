"""How captions may look, and where in the picture they lie."""

from dataclasses import dataclass
from typing import NamedTuple

from tasks.core.appearance import Position, PresetName

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

SIDE, TOP, BOTTOM = 0.08, 0.12, 0.20
"""Shares of the picture that players cover with controls."""
CENTRES: dict[Position, float] = {"lower": 0.75, "middle": 0.64, "upper": 0.22}
"""Vertical centre of the captions as a share of the height."""
TALL = 1.5
"""Height of a picture in widths from which on its middle is free for captions."""
SEAM = 0.5
"""The same in a picture of two parts, one above the other: below one face, above the other."""
LINE = 1.762
"""Height of a line in em, in Poppins."""
_LETTERS = 1.2
"""From the top of the highest to the bottom of the lowest letters, in em. Some faces' lines are no higher."""
_MEASURED, _ROOM = 0.08, 0.012
"""Least half of the height in which captions are looked for, and room beside them: shares of the picture's height."""
_WHITE, _BLACK, _YELLOW = (255, 255, 255), (0, 0, 0), (255, 225, 0)


@dataclass(frozen=True)
class Preset:
    """A look. `em`, `outline`, `shadow` and `padding` are sizes: an em as a share of the picture's shorter side, the
    others in em.

    `face` is the font for scripts that it has. At most `words` are on screen at once, in at most `lines`. `spoken` is
    the colour of the word that is being said, `box` that of a box behind the captions. `mark` is the colour that is on
    screen exactly while there are captions; checks look for it. With `reveals`, words appear as they are said. `pop` is
    the share by which the spoken word grows; 0 with a box, which would grow with it.
    """

    face: str
    em: float = 0.050
    words: int = 7
    lines: int = 2
    capitals: bool = False
    text: Colour = _WHITE
    spoken: Colour = _YELLOW
    mark: Colour = _YELLOW
    outline: float = 0.095
    shadow: float = 0.035
    box: Colour | None = None
    padding: float = 0.0
    reveals: bool = False
    pop: float = 0.0
    position: Position = "lower"

    @property
    def edge(self) -> Colour:
        """The colour around the letters: that of the box or of the outline."""
        return self.box or _BLACK


PRESETS: dict[PresetName, Preset] = {
    "classic": Preset("Poppins ExtraBold", em=0.064, words=5, position="middle", pop=0.12),
    "punch": Preset(
        "Anton Regular", em=0.078, words=3, lines=1, capitals=True, spoken=(40, 255, 80), mark=(40, 255, 80), pop=0.12
    ),
    "word": Preset(
        "Fira Sans ExtraBold",
        em=0.092,
        words=1,
        lines=1,
        spoken=(255, 190, 0),
        mark=(255, 190, 0),
        position="middle",
        pop=0.12,
    ),
    "box": Preset("Poppins ExtraBold", em=0.048, outline=0.0, shadow=0.0, box=_BLACK, padding=0.45),
    "label": Preset(
        "Poppins Bold",
        em=0.050,
        words=4,
        lines=1,
        text=_BLACK,
        spoken=_BLACK,
        outline=0.0,
        shadow=0.0,
        box=_YELLOW,
        padding=0.35,
    ),
    "reveal": Preset(
        "Fira Sans ExtraBold Italic",
        em=0.056,
        spoken=(0, 229, 255),
        mark=(0, 229, 255),
        shadow=0.0,
        reveals=True,
        pop=0.12,
    ),
}


class Band(NamedTuple):
    """Rows of a picture, in shares of its height."""

    top: float
    bottom: float

    def holds(self, place: float, room: float = 0.0) -> bool:
        """Whether a row lies in it or less than `room` beside it."""
        return self.top - room <= place <= self.bottom + room


@dataclass(frozen=True)
class Look:
    """A preset at a position.

    None is the preset's own or, if the picture `is_split` into two parts, between them. If captions in the middle would
    cover what is there, they are `lowered`.
    """

    preset: Preset = PRESETS["classic"]
    position: Position | None = None
    is_split: bool = False
    lowered: bool = False

    def em(self, size: tuple[int, int]) -> float:
        """An em in pixels, in a picture of this width and height."""
        return self.preset.em * min(size)

    def centre(self, size: tuple[int, int], line: float = LINE) -> float:
        """Where the captions' middle is, so that all lines stay inside the safe area. `line` is a line's height in em.

        Returns:
            A share of the picture's height.
        """
        half = self._half(size, line)
        return max(min(self._wanted(size), 1 - BOTTOM - half), TOP + half)

    def _wanted(self, size: tuple[int, int]) -> float:
        if self.position:
            return CENTRES[self.position]
        if self.is_split:
            return SEAM
        is_free = size[1] >= TALL * size[0] and not self.lowered
        return CENTRES["lower" if self.preset.position == "middle" and not is_free else self.preset.position]

    def rows(self, size: tuple[int, int]) -> "Band":
        """The rows that two full lines of captions cover."""
        centre, half = self.centre(size), self._half(size, LINE)
        return Band(centre - half, centre + half)

    def band(self, size: tuple[int, int]) -> Band:
        """The rows in which captions are looked for; a few more than they cover."""
        centre, half = self.centre(size), max(_MEASURED, self._half(size, LINE) + _ROOM)
        return Band(centre - half, centre + half)

    def _half(self, size: tuple[int, int], line: float) -> float:
        """Half the height of all lines, with what is drawn around them."""
        preset = self.preset
        letters = (preset.lines - 1) * line / 2 + _LETTERS * (1 + preset.pop) / 2 + preset.outline + preset.shadow
        return (max(preset.lines * line / 2, letters) + preset.padding) * self.em(size) / size[1]


CLASSIC = Look()
