"""Interpret the colours of a source, whether its file has all colour tags, some or none."""

from dataclasses import dataclass

from tasks.core.media import MediaInfo

HDR = frozenset({"smpte2084", "arib-std-b67"})
"""PQ and HLG."""
HD_LINES = 720
"""A file without a matrix tag is BT.709 from this many lines up, and BT.601 below."""
_BT709_LIKE_MATRICES = frozenset({"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "gbr"})
_BT709_LIKE_PRIMARIES = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "ebu3213"})
"""So close to BT.709 that players treat them alike."""
_NEVER_HDR, _ONLY_HDR = frozenset({"bt2020c", "chroma-derived-c"}), frozenset({"ictcp"})
"""Matrices never defined with PQ and HLG, or only with them; an impossible tag is read as bt2020nc."""
_OTHER_TRANSFERS = HDR | {"linear", "log100", "log316"}
"""All other transfers look the same on a screen."""


@dataclass(frozen=True)
class Colours:
    """Matrix, primaries and transfer by ffmpeg's names; all are known."""

    matrix: str
    primaries: str
    transfer: str

    @property
    def is_hdr(self) -> bool:
        return self.transfer in HDR

    @property
    def is_close_to_bt709(self) -> bool:
        """Whether changing only the matrix turns these colours into BT.709."""
        return (
            self.matrix in _BT709_LIKE_MATRICES
            and self.primaries in _BT709_LIKE_PRIMARIES
            and self.transfer not in _OTHER_TRANSFERS
        )


def colours(info: MediaInfo) -> Colours:
    """The source's colours, with missing tags inferred from the others.

    PQ, HLG and a BT.2020 matrix or primaries imply BT.2020 for the rest. A file without tags is BT.709
    or, if the picture is small, BT.601.
    """
    tags = (info.color_matrix or "", info.color_primaries or "")
    is_wide = info.color_transfer in HDR or any(tag.startswith("bt2020") for tag in tags)
    by_size = "bt709" if min(info.width, info.height) >= HD_LINES else "smpte170m"
    is_possible = info.color_matrix not in (_NEVER_HDR if info.color_transfer in HDR else _ONLY_HDR)
    matrix = info.color_matrix if is_possible else "bt2020nc"
    return Colours(
        matrix=matrix or ("bt2020nc" if is_wide else by_size),
        primaries=info.color_primaries or ("bt2020" if is_wide else "bt709"),
        transfer=info.color_transfer or ("bt2020-10" if is_wide else "bt709"),
    )
