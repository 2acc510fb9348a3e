"""A source's streams and page data, as known before decoding."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class AudioTrack(BaseModel):
    """An audio track according to its container. `index` is its stream index in the file, `start` is in seconds.

    `layout` is ffmpeg's name, or a count like "16 channels" if the file names no layout. `aside` marks
    tracks other than the main programme: commentary, audio description, karaoke.
    """

    model_config = ConfigDict(frozen=True)

    index: int
    codec: str
    sample_rate: int
    channels: int
    layout: str
    language: str | None = None
    default: bool = False
    original: bool = False
    aside: bool = False
    start: float = 0.0

    @property
    def has_layout(self) -> bool:
        """Whether the layout names every channel, which a downmix needs."""
        return not self.channels or (self.layout != "downmix" and not self.layout.endswith(" channels"))

    @property
    def without_layout(self) -> "AudioTrack":
        """The same track with its layout unknown, because a downmix by layout drops some channels."""
        return self.model_copy(update={"layout": f"{self.channels} channels"})


class MediaInfo(BaseModel):
    """Streams of a media file, according to its container and one decoded frame.

    `width` and `height` are as displayed: after rotation, with square pixels. `rotation` is in degrees
    clockwise (0, 90, 180, 270). Times are in seconds; `fps` is the average rate. `color_matrix`,
    `color_primaries` and `color_transfer` are ffmpeg's names (bt709, smpte170m; smpte2084 is PQ,
    arib-std-b67 is HLG, gbr means RGB), or None if unknown. `interlaced` means two fields per frame,
    `alpha` a picture with transparency. `start` is the container timestamp that ffmpeg treats as 0.
    `video_index` is the video stream's index in the file; `video_is_first` tells whether ffmpeg would pick it.
    `tracks` are all audio tracks; `audio_*` describe the selected one, stream `audio_index`.
    `programs` counts the programs of a transport stream; `program` is the one described, counted from 1,
    or None unless there are several. `is_cover` marks a still picture that we gave to a source with only sound.
    """

    model_config = ConfigDict(frozen=True)

    duration: float
    size_bytes: int
    container: str
    video_codec: str | None = None
    width: int = 0
    height: int = 0
    rotation: int = 0
    sample_aspect_ratio: float = 1.0
    fps: float = 0.0
    pixel_format: str | None = None
    color_matrix: str | None = None
    color_primaries: str | None = None
    color_transfer: str | None = None
    alpha: bool = False
    interlaced: bool = False
    video_start: float = 0.0
    audio_codec: str | None = None
    audio_sample_rate: int = 0
    audio_channels: int = 0
    audio_start: float = 0.0
    audio_index: int | None = None
    start: float = 0.0
    is_cover: bool = False
    programs: int = 0
    program: int | None = None
    video_index: int = 0
    video_is_first: bool = True
    tracks: list[AudioTrack] = Field(default_factory=list[AudioTrack])

    def with_track(self, track: AudioTrack) -> "MediaInfo":
        """The same file with `track` selected as its audio."""
        return self.model_copy(
            update={
                "audio_codec": track.codec,
                "audio_sample_rate": track.sample_rate,
                "audio_channels": track.channels,
                "audio_start": track.start,
                "audio_index": track.index,
            }
        )

    @property
    def pictures_per_second(self) -> float:
        """Distinct pictures per second: an interlaced frame holds two. 0 is unknown, or no motion at all."""
        if self.is_cover:
            return 0.0
        return 2 * self.fps if self.interlaced else self.fps


class HeatmapPoint(BaseModel):
    """How often viewers replay a part of the source, from 0 to 1, according to its site."""

    start_time: float
    end_time: float
    value: float


class Chapter(BaseModel):
    start_time: float
    end_time: float
    title: str = ""


class SourceMeta(BaseModel):
    """Metadata from the source's page: `meta.json`. `extra` holds the fields without a column of their own."""

    source_id: str
    kind: Literal["site", "file_url", "local_file"]
    title: str = ""
    uploader: str | None = None
    webpage_url: str | None = None
    duration: float | None = None
    upload_date: str | None = None
    heatmap: list[HeatmapPoint] = Field(default_factory=list[HeatmapPoint])
    chapters: list[Chapter] = Field(default_factory=list[Chapter])
    extra: dict[str, Any] = Field(default_factory=dict[str, Any])
