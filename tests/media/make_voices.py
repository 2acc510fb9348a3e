"""Makes the recordings in `voices/`, spoken by espeak-ng, and `voices.json` with their texts.

    apt-get install espeak-ng
    .venv/bin/python tests/media/make_voices.py

Needed only when a text changes: its results are committed.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

HERE = Path(__file__).parent
WORDS_A_MINUTE, PITCH = 140, 50
PAUSE = 0.4
"""Seconds between two lines."""
SHAPE = "loudnorm=I=-20,aresample=24000,aformat=channel_layouts=mono"

SPANISH = (
    "Ayer caminamos por el mercado con mi hermana. Compramos naranjas, pan y un poco de queso. "
    "Después nos sentamos junto al río y hablamos toda la tarde."
)
ITALIAN = (
    "Ieri abbiamo camminato fino al mercato con mia sorella. Abbiamo comprato arance, pane e un po' di formaggio. "
    "Poi ci siamo seduti vicino al fiume e abbiamo parlato tutto il pomeriggio."
)
CHANT = ["We will not stop."] * 8
"""Each line is spoken at a speed and pitch of its own, as a person would."""
VOICES = {"spanish": ("es", [SPANISH]), "italian": ("it", [ITALIAN]), "chant": ("en-us", CHANT)}


def main() -> None:
    (HERE / "voices").mkdir(exist_ok=True)
    for name, (voice, lines) in VOICES.items():
        with tempfile.TemporaryDirectory() as folder:
            join(
                [speak(voice, line, n, Path(folder)) for n, line in enumerate(lines)], HERE / "voices" / f"{name}.opus"
            )
    texts = {name: " ".join(lines) for name, (_, lines) in VOICES.items()}
    (HERE / "voices.json").write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n")


def speak(voice: str, line: str, number: int, folder: Path) -> Path:
    spoken = folder / f"{number}.wav"
    speed, pitch = WORDS_A_MINUTE + 12 * ((number + 1) % 3 - 1) * (number > 0), PITCH + 7 * (number % 4)
    subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(spoken), line], check=True)
    return spoken


def join(lines: list[Path], target: Path) -> None:
    inputs = [word for line in lines for word in ("-i", str(line))]
    shaped = [f"[{n}:a]{SHAPE},adelay={PAUSE * 1000 * (n > 0):.0f}[{n}]" for n in range(len(lines))]
    joined = "".join(f"[{n}]" for n in range(len(lines))) + f"concat=n={len(lines)}:v=0:a=1"
    opus = ["-c:a", "libopus", "-b:a", "24k", "-map_metadata", "-1", "-fflags", "+bitexact"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *inputs]
    subprocess.run([*command, "-filter_complex", ";".join([*shaped, joined]), *opus, str(target)], check=True)


if __name__ == "__main__":
    main()
