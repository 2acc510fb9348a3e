"""ffmpeg filters that convert any source's frames to the clip's format: progressive, opaque, BT.709."""

from typing import Any

from tasks.core.media import MediaInfo
from tasks.core.picture.colour import Colours, colours
from tasks.core.picture.field_order import Scan

Filters = list[tuple[str, dict[str, Any]]]
"""Filters in order, each with its options."""

SCALED_MATRICES = frozenset({"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "gbr", "bt2020nc"})
"""Matrix tags that ffmpeg's scale accepts; it rejects all others, even if there is nothing to convert."""
_BOTH_FIELDS = 1.5
"""From this many output frames per interlaced frame, each field becomes a frame."""


def apply(stream: Any, filters: Filters) -> Any:
    """Apply the filters to an ffmpeg-python stream."""
    for name, options in filters:
        stream = stream.filter(name, **options)
    return stream


def filter_chain(filters: Filters) -> str:
    """The filters as one chain for `-vf`; quotes protect the commas in expressions."""
    return ",".join(f"{name}=" + ":".join(f"{k}='{v}'" for k, v in options.items()) for name, options in filters)


def deinterlacing(scan: Scan, info: MediaInfo, rate: float) -> Filters:
    """Filters that turn fields into frames, for `rate` output frames per second; none for progressive pictures.

    Telecined film is restored to its original frames. What remains combed, such as captions added later, is
    deinterlaced like video.
    """
    if scan.kind == "progressive":
        return []
    if scan.kind == "telecined":
        order = {None: "auto", True: "tff", False: "bff"}[scan.top_first]
        return [("fieldmatch", {"order": order, "combmatch": "full"}), ("bwdif", {"mode": 0, "deint": "interlaced"})]
    parity = {None: "auto", True: "tff", False: "bff"}[scan.top_first]
    mode = "send_field" if rate >= _BOTH_FIELDS * info.fps else "send_frame"
    return [("bwdif", {"mode": mode, "parity": parity, "deint": "all"})]


def preparation(info: MediaInfo) -> Filters:
    """Filters required before scaling; none for ordinary frames.

    Transparent parts become black, as in players, because the colours stored there are not meant to be seen.
    """
    steps: Filters = []
    if info.color_matrix not in SCALED_MATRICES:
        steps.append(("setparams", {"colorspace": "unknown"}))
    if info.alpha:
        planar = "gbrap" if info.color_matrix == "gbr" else "yuva444p|yuva444p10le|yuva444p12le|yuva444p16le"
        steps += [("format", {"pix_fmts": planar}), ("premultiply", {"inplace": 1})]
    return steps


def to_bt709(info: MediaInfo, width: int, height: int, flags: str = "bicubic") -> Filters:
    """Scale to a size and convert to the clip's colours: BT.709, limited range, standard dynamic range."""
    source = colours(info)
    size: dict[str, object] = {"w": width, "h": height, "flags": flags}
    if not source.is_close_to_bt709:
        return [("scale", size), *_converted(source), ("format", {"pix_fmts": "yuv420p"})]
    known = {} if source.matrix == "gbr" else {"in_color_matrix": source.matrix}
    scale = size | known | {"out_color_matrix": "bt709", "out_range": "tv"}
    return [("scale", scale), ("format", {"pix_fmts": "yuv420p"})]


def _converted(source: Colours) -> Filters:
    tags: dict[str, object] = {
        "matrixin": source.matrix,
        "primariesin": source.primaries,
        "transferin": source.transfer,
    }
    if not source.is_hdr:
        return [("zscale", tags | {"matrix": "bt709", "primaries": "bt709", "transfer": "bt709", "range": "limited"})]
    # Convert PQ and HLG through linear light, where white is 100 cd/m2.
    return [
        ("zscale", tags | {"transfer": "linear", "primaries": "bt709", "npl": 100}),
        ("format", {"pix_fmts": "gbrpf32le"}),
        ("tonemap", {"tonemap": "hable", "desat": 0}),
        ("zscale", {"transfer": "bt709", "matrix": "bt709", "range": "limited"}),
    ]
