"""What may be chosen of a clip's appearance: the names that a request and the edit document share."""

from typing import Literal

Ratio = Literal["9:16", "4:5", "1:1", "16:9"]
"""Width to height of the picture."""
PresetName = Literal["classic", "punch", "word", "box", "label", "reveal"]
"""Looks of captions; `tasks/core/captions/presets.py` defines them."""
Position = Literal["lower", "middle", "upper"]
"""Where captions are."""
FramingName = Literal["auto", "fit", "centre", "split", "screen"]
"""What of the source's picture all of a job's clips show; the edit document has more, segment by segment."""
