"""What is known of a source before anything is decoded: its streams and its page."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class AudioTrack(BaseModel):
    """One sound track, as its container tells. `index` is its stream's in the file; `start` is in seconds.

    `layout` is ffmpeg's name, "16 channels" where the file does not say what they are. `aside` marks
    commentary, descriptions for the blind, karaoke and the like: not the programme itself.
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
    def labelled(self) -> bool:
        """Whether the layout tells what each channel is, so that a downmix is known."""
        return not self.channels or (self.layout != "downmix" and not self.layout.endswith(" channels"))

    @property
    def unlabelled(self) -> "AudioTrack":
        """The same channels, none of which is taken for what it is said to be: a downmix leaves some out."""
        return self.model_copy(update={"layout": f"{self.channels} channels"})


class MediaInfo(BaseModel):
    """Streams of a media file, as its container and one decoded frame tell.

    `width` and `height` are those of the picture as shown: after rotation, with square pixels.
    `rotation` is in degrees clockwise (0, 90, 180, 270); times are seconds, `fps` the average rate.
    `color_matrix`, `color_primaries` and `color_transfer` have ffmpeg's names (bt709, smpte170m; smpte2084
    is PQ, arib-std-b67 is HLG, gbr means RGB), or None where the file does not tell. `interlaced`: the file,
    or a frame of it, says that a frame is made of two fields. `alpha`: the picture has transparent parts.
    `start` is the container's time stamp that ffmpeg counts as 0. `video_index` is the picture's stream in
    the file, `video_is_first` tells whether it is the first that ffmpeg finds. `tracks` are all sound tracks;
    `audio_*` describe the one that is taken, whose stream in the file is `audio_index`. `programs` counts those
    of a transport stream; `program` is the one described, from 1, or None unless there are several.
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
    programs: int = 0
    program: int | None = None
    video_index: int = 0
    video_is_first: bool = True
    tracks: list[AudioTrack] = Field(default_factory=list[AudioTrack])

    def hearing(self, track: AudioTrack) -> "MediaInfo":
        """The same file with `track` as its sound."""
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
    def moments(self) -> float:
        """Moments shown in a second: a frame of two fields shows two."""
        return 2 * self.fps if self.interlaced else self.fps


class HeatmapPoint(BaseModel):
    """How often a part of the source is replayed, 0 to 1, as its site reports it."""

    start_time: float
    end_time: float
    value: float


class Chapter(BaseModel):
    start_time: float
    end_time: float
    title: str = ""


class SourceMeta(BaseModel):
    """What the source's page says of it: `meta.json`. `extra` holds the rest of what was kept."""

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
