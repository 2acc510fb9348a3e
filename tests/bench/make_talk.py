"""Makes the talk that the benchmark cuts: ten minutes of 1920x1080 at 30 fps, about 5 Mbit/s.

The speech is `talk.opus`, ten minutes without repetition. The picture is the sample's, enlarged and
with grain, so that decoding costs as much as for a camera's file; it is encoded once and looped.
The same inputs give the same file.

    python tests/bench/make_talk.py FOLDER
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

HERE = Path(__file__).parent
PICTURE = HERE.parent / "media" / "sample.mp4"
SOUND = HERE / "talk.opus"
SECONDS = 600

GRAIN = "scale=1920:1080:flags=bicubic,fps=30,noise=alls=7:allf=t:all_seed=1,format=yuv420p"
LOOP = "-c:v libx264 -preset superfast -b:v 5M -maxrate 7M -bufsize 10M -g 60 -bf 2 -an"
TALK = f"-map 0:v -map 1:a -c:v copy -c:a aac -b:a 128k -ar 48000 -ac 2 -t {SECONDS} -movflags +faststart"
REPEATABLE = "-map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact"


def make_talk(folder: Path) -> Path:
    """The path of the talk in `folder`; makes it (about two minutes of CPU) unless it exists."""
    target = folder / f"talk-{fingerprint()}.mp4"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    loop, part = folder / "loop.mp4", folder / "part.mp4"
    ffmpeg("-i", PICTURE, "-vf", GRAIN, *LOOP.split(), *REPEATABLE.split(), loop)
    ffmpeg("-stream_loop", "-1", "-i", loop, "-i", SOUND, *TALK.split(), *REPEATABLE.split(), part)
    loop.unlink()
    part.rename(target)
    return target


def fingerprint() -> str:
    """A digest of the inputs and of this file."""
    digest = hashlib.sha256()
    for path in (PICTURE, SOUND, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    print(make_talk(Path(sys.argv[1])))
