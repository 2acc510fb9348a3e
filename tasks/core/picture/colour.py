"""What the colours of a source mean, whether its file has all colour tags, some or none."""

from dataclasses import dataclass

from tasks.core.media import MediaInfo

HDR = frozenset({"smpte2084", "arib-std-b67"})
"""PQ and HLG."""
HD_LINES = 720
"""A file without a matrix tag means BT.709 from this many lines up, and BT.601 below."""
_USUAL_MATRICES = frozenset({"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "gbr"})
_USUAL_PRIMARIES = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "ebu3213"})
"""So close to BT.709 that players treat them as BT.709."""
_NEVER_HDR, _ONLY_HDR = frozenset({"bt2020c", "chroma-derived-c"}), frozenset({"ictcp"})
"""Matrices never defined with PQ and HLG, or only with them: a tag that cannot be true means bt2020nc."""
_UNUSUAL_TRANSFERS = HDR | {"linear", "log100", "log316"}
"""All other transfers look alike on a screen."""


@dataclass(frozen=True)
class Colours:
    """Matrix, primaries and transfer by ffmpeg's names; none is unknown."""

    matrix: str
    primaries: str
    transfer: str

    @property
    def is_hdr(self) -> bool:
        return self.transfer in HDR

    @property
    def is_usual(self) -> bool:
        """Whether changing only the matrix turns these colours into BT.709."""
        return (
            self.matrix in _USUAL_MATRICES
            and self.primaries in _USUAL_PRIMARIES
            and self.transfer not in _UNUSUAL_TRANSFERS
        )


def colours(info: MediaInfo) -> Colours:
    """The source's colours, with missing tags inferred from the others.

    PQ, HLG and a BT.2020 matrix or primaries imply BT.2020 for the rest. A file without tags means BT.709
    or, if the picture is small, BT.601.
    """
    told = (info.color_matrix or "", info.color_primaries or "")
    is_wide = info.color_transfer in HDR or any(name.startswith("bt2020") for name in told)
    by_size = "bt709" if min(info.width, info.height) >= HD_LINES else "smpte170m"
    is_possible = info.color_matrix not in (_NEVER_HDR if info.color_transfer in HDR else _ONLY_HDR)
    matrix = info.color_matrix if is_possible else "bt2020nc"
    return Colours(
        matrix=matrix or ("bt2020nc" if is_wide else by_size),
        primaries=info.color_primaries or ("bt2020" if is_wide else "bt709"),
        transfer=info.color_transfer or ("bt2020-10" if is_wide else "bt709"),
    )
