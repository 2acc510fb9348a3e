"""Reasons why a video cannot become clips. These errors are permanent and never retried: the user has to act.

ClipError
├── BadRequest            the request itself is malformed
├── SourceError           the video cannot be downloaded
│   ├── AddressRefused    the address is not a public http(s) address
│   ├── SourceNotListening  nothing listens at the address, after several tries
│   ├── SourceNotFound    404, removed, unknown host
│   ├── SourcePrivate     private, members-only, needs a login
│   ├── SourceGated       age check or bot check
│   ├── SourceGeoBlocked  not available in the worker's country
│   ├── SourceIsLive      a live stream that has not ended
│   ├── SourceTooLong     longer than MAX_SOURCE_SECONDS
│   ├── SourceTooLarge    larger than MAX_SOURCE_BYTES
│   └── UnsupportedSource the site or page has no readable video
├── MediaError            the file cannot be used
│   ├── UnreadableMedia   no decoder reads it
│   └── NoAudio           no sound
├── NoSpeech              nobody speaks
├── TooShort              too little speech for one clip
├── NoClips               every candidate failed the output contract
└── RecutRefused          a changed clip cannot be drawn, or fails the output contract

ProgramStopped is not among them, because it says nothing about the video.
"""


class ProgramStopped(Exception):
    """An external program (ffmpeg, yt-dlp) hung, or was killed by us or the kernel.

    This says nothing about the media or the GPU, so it is neither a `ClipError` nor an engine error. Code that
    handles those must not catch it: the stage fails and can be retried.
    """


class ClipError(Exception):
    """A permanent failure. `message` is the cause and `next_step` what to do, each one sentence for the user.

    `code` names the cause in `error.json` and in the job record, and never changes.
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
    next_step = "Check the host and port of the address and that its server is running, then try again."


class SourcePrivate(SourceError):
    code = "private"
    next_step = "Make it public or unlisted, or set YTDLP_COOKIES_FILE to the cookies of an account that can watch it."


class SourceGated(SourceError):
    code = "gated"
    next_step = "Export the cookies of a signed-in browser to a file and set YTDLP_COOKIES_FILE to its path."


class SourceGeoBlocked(SourceError):
    code = "geo_blocked"
    next_step = "Use a copy of the video that is available in the worker's country."


class SourceIsLive(SourceError):
    code = "live"
    next_step = "Wait until the stream has ended and its recording is available."


class SourceTooLong(SourceError):
    code = "too_long"
    next_step = "Use a shorter video, or raise MAX_SOURCE_SECONDS."


class SourceTooLarge(SourceError):
    code = "too_large"
    next_step = "Use a smaller file, or raise MAX_SOURCE_BYTES."


class UnsupportedSource(SourceError):
    code = "unsupported"
    next_step = "Use the address of the video's own page or of a media file."


class MediaError(ClipError):
    code = "media_error"


class UnreadableMedia(MediaError):
    code = "unreadable_media"
    next_step = "Check that the file plays, and export it again as MP4 (H.264 and AAC)."


class NoAudio(MediaError):
    code = "no_audio"
    next_step = "Use a file with sound; clips are chosen by what is said."


class NoSpeech(ClipError):
    code = "no_speech"
    next_step = "Use a video with speech."


class TooShort(ClipError):
    code = "too_short"
    next_step = "Ask for shorter clips, or use a longer video."


class NoClips(ClipError):
    code = "no_clips"
    next_step = "Try again with another clip length; if it happens again, report the job id."


class RecutRefused(ClipError):
    code = "recut_refused"
    next_step = "The published clips are as they were; change the document, or send it again."
