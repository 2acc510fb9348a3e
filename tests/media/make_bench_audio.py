"""Makes `tests/bench/talk.opus`, ten minutes of speech for the benchmark, from `tests/bench/talk.txt`.

A line of the text is a sentence, an empty line a longer pause. Needs what `speech.py` needs, and
imageio-ffmpeg; see `make_sample.py`.
"""

import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import speech

BENCH = Path(__file__).parent.parent / "bench"
SECONDS = 600
SPEED, GAIN = 0.875, 1.0
SENTENCE_GAP, PARAGRAPH_GAP = 0.5, 1.3


def main() -> None:
    paragraphs = [block.splitlines() for block in (BENCH / "talk.txt").read_text().strip().split("\n\n")]
    script = [
        speech.Line(str(n), sentence, SPEED, GAIN, PARAGRAPH_GAP if sentence is block[-1] else SENTENCE_GAP)
        for n, block in enumerate(paragraphs)
        for sentence in block
    ]
    samples, spoken = speech.speak(script, before=1.0)
    print(f"the last word ends at {spoken[-1].end:.1f} s of {SECONDS}")
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "talk.wav"
        speech.write_wave(wave, samples)
        options = f"-af apad -t {SECONDS} -c:a libopus -b:a 24k -application voip -map_metadata -1 -fflags +bitexact"
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
        subprocess.run([*ffmpeg, "-i", str(wave), *options.split(), str(BENCH / "talk.opus")], check=True)


if __name__ == "__main__":
    main()
