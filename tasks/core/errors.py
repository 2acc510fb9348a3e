"""Why a video cannot become clips: permanent, the user's to fix, never retried.

ClipError
├── BadRequest            the request itself is malformed
├── SourceError           the video cannot be had
│   ├── AddressRefused    the address is not a public http(s) address
│   ├── SourceNotListening  nothing listens at the address, although it was tried more than once
│   ├── SourceNotFound    404, removed, unknown host
│   ├── SourcePrivate     private, members-only, needs a login
│   ├── SourceGated       age check or bot check
│   ├── SourceGeoBlocked  not available where the worker is
│   ├── SourceIsLive      a stream that has not ended
│   ├── SourceTooLong     more seconds than MAX_SOURCE_SECONDS
│   ├── SourceTooLarge    more bytes than MAX_SOURCE_BYTES
│   └── UnsupportedSource the site or page holds no video that can be read
├── MediaError            the file was had, and is no use
│   ├── UnreadableMedia   no decoder reads it
│   ├── NoVideo           no picture
│   └── NoAudio           no sound
├── NoSpeech              nobody speaks
├── TooShort              less speech than one clip needs
└── NoClips               every candidate failed the output contract

ProgramStopped stands apart: it is no word about the video.
"""


class ProgramStopped(Exception):
    """A program outside Python (ffmpeg, yt-dlp) was ended by a signal, ours or the kernel's, or stood still.

    It says nothing of the media or the GPU, so it is neither a `ClipError` nor an engine's own error, and
    nothing that handles those may catch it: the stage ends, and can be tried again.
    """


class ClipError(Exception):
    """A permanent failure with a cause and a next step, both one sentence for the user.

    `code` is the stable name of the cause in `error.json` and in the job record.
    """

    code = "clip_error"
    next_step = "Try another video."

    def __init__(self, message: str, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if next_step is not None:
            self.next_step = next_step

    def __reduce__(self) -> tuple[type["ClipError"], tuple[str, str]]:
        return type(self), (self.message, self.next_step)

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class BadRequest(ClipError):
    code = "bad_request"
    next_step = "Correct the request and send it again."


class SourceError(ClipError):
    code = "source_error"


class AddressRefused(SourceError):
    code = "address_refused"
    next_step = "Use a public http or https address."


class SourceNotFound(SourceError):
    code = "not_found"
    next_step = "Open the link in a browser; if it plays there, copy its address again."


class SourceNotListening(SourceError):
    code = "not_listening"
    next_step = "Check host and port of the address, and that its server runs; then try again."


class SourcePrivate(SourceError):
    code = "private"
    next_step = "Make it public or unlisted, or give the cookies of an account that may see it (YTDLP_COOKIES_FILE)."


class SourceGated(SourceError):
    code = "gated"
    next_step = "Export the cookies of a signed-in browser to a file and name it in YTDLP_COOKIES_FILE."


class SourceGeoBlocked(SourceError):
    code = "geo_blocked"
    next_step = "Use a copy of the video that is available in the worker's country."


class SourceIsLive(SourceError):
    code = "live"
    next_step = "Wait until the stream has ended and its recording is published."


class SourceTooLong(SourceError):
    code = "too_long"
    next_step = "Use a shorter video, or raise MAX_SOURCE_SECONDS."


class SourceTooLarge(SourceError):
    code = "too_large"
    next_step = "Use a smaller file, or raise MAX_SOURCE_BYTES."


class UnsupportedSource(SourceError):
    code = "unsupported"
    next_step = "Give the address of the video's own page or of a media file."


class MediaError(ClipError):
    code = "media_error"


class UnreadableMedia(MediaError):
    code = "unreadable_media"
    next_step = "Check that the file plays, and export it again as MP4 (H.264 and AAC)."


class NoVideo(MediaError):
    code = "no_video"
    next_step = "Use a file with a picture; audio alone cannot become a video clip."


class NoAudio(MediaError):
    code = "no_audio"
    next_step = "Use a video with sound; clips are chosen by what is said."


class NoSpeech(ClipError):
    code = "no_speech"
    next_step = "Use a video in which somebody speaks."


class TooShort(ClipError):
    code = "too_short"
    next_step = "Ask for shorter clips, or use a longer video."


class NoClips(ClipError):
    code = "no_clips"
    next_step = "Try again with other seconds; if it happens again, report the job id."
