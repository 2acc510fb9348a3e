"""Makes `tongues.opus`, English followed by Spanish, and `tongues.json` with its text and times.

    apt-get install espeak-ng
    .venv/bin/python tests/media/make_tongues.py

Needed only when the text changes: its results are committed.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

HERE = Path(__file__).parent
TURN, PAUSE = 9.9, 0.3
"""Seconds taken from `short.mp4`, up to a pause in its speech, and seconds of silence before the Spanish."""
WORDS_A_MINUTE = 140
SPANISH = (
    "Ayer caminamos por el mercado con mi hermana. Compramos naranjas, pan y un poco de queso. "
    "Después nos sentamos junto al río y hablamos toda la tarde."
)
SHAPE = "loudnorm=I=-20,aresample=24000,aformat=channel_layouts=mono"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        spanish = Path(folder) / "es.wav"
        subprocess.run(["espeak-ng", "-v", "es", "-s", str(WORDS_A_MINUTE), "-w", str(spanish), SPANISH], check=True)
        inputs = ["-t", str(TURN), "-i", str(HERE / "short.mp4"), "-i", str(spanish)]
        late = f"adelay={PAUSE * 1000:.0f}"
        join = f"[0:a]{SHAPE}[a];[1:a]{SHAPE},{late}[b];[a][b]concat=n=2:v=0:a=1"
        opus = ["-c:a", "libopus", "-b:a", "24k", "-map_metadata", "-1", "-fflags", "+bitexact"]
        exe = imageio_ffmpeg.get_ffmpeg_exe()
        target = str(HERE / "tongues.opus")
        subprocess.run([exe, "-y", "-v", "error", *inputs, "-filter_complex", join, *opus, target], check=True)
    truth = {"turn": TURN, "first": TURN + PAUSE, "es": SPANISH}
    (HERE / "tongues.json").write_text(json.dumps(truth, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
