"""Builds images without a daemon, with buildah. Base images are stand-ins made by debootstrap under the same names."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.folders import ROOT

DOCKER = ROOT / "infra" / "docker"
SUITES = {"python:3.11": "bookworm", "nvidia/cuda:": "trixie"}
"""The Debian suite that stands in for a base, by prefix of the base's name. Trixie has Python 3.13; the CUDA
base, an Ubuntu, has 3.12."""
PROGRAMS = ("buildah", "debootstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TRUST = {name: str(CERTIFICATES) for name in ("SSL_CERT_FILE", "PIP_CERT")}
"""Makes the stand-in bases trust this machine's certificates, which may include a proxy's."""


class Images:
    """Builds and runs images in separate storage. Needs root and Debian's buildah and debootstrap."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)):
            raise RuntimeError(f"building images needs root and: apt-get install {' '.join(PROGRAMS)}")
        self._storage = ["--root", str(folder / "storage"), "--runroot", tempfile.mkdtemp(prefix="kk-run")]
        self._folder = folder
        self._bases: set[str] = set()

    def build(self, name: str, dockerfile: str, target: str | None = None, **arguments: str) -> None:
        """Build `infra/docker/{dockerfile}`, up to a target stage, as image `name`."""
        text = (DOCKER / dockerfile).read_text()
        stages = set(re.findall(r" AS (\S+)", text))
        for base in set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages:
            self._make_base(base)
        options = ["--isolation", "chroot", "--layers", "--pull-never", "-t", name, "-f", str(DOCKER / dockerfile)]
        options += [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        self._buildah("bud", *options, *(["--target", target] if target else []), str(ROOT))

    def config(self, name: str) -> dict[str, Any]:
        """The image's settings: Cmd, User, Env, WorkingDir."""
        return json.loads(self._buildah("inspect", "--type", "image", name))["OCIv1"]["config"]

    def start(self, name: str, env: Mapping[str, str], command: list[str] | None = None) -> subprocess.Popen[str]:
        """Run the image's command or another, as the image's user and in this machine's network."""
        container = self._buildah("from", "--pull-never", name).strip()
        options = [word for pair in env.items() for word in ("--env", "=".join(pair))]
        words = ["buildah", *self._storage, "run", "--isolation", "chroot", *options, container, "--"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*words, *(command or self.config(name)["Cmd"])], stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def output_of(self, name: str, *command: str) -> str:
        """The output of a command run inside the image."""
        process = self.start(name, {}, list(command))
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output.strip()

    def remove(self) -> None:
        """Delete all images, containers and their storage."""
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")

    def _make_base(self, base: str) -> None:
        if base in self._bases:
            return
        suite = next(suite for begin, suite in SUITES.items() if base.startswith(begin))
        root = self._folder / f"root-{base.replace('/', '-').replace(':', '-')}"
        include = "--include=ca-certificates,python3,python3-venv"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", include, suite, str(root)],
            capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        scratch = self._buildah("from", "scratch").strip()
        self._buildah("add", scratch, str(root), "/")
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | TRUST
        self._buildah("config", *(word for pair in env.items() for word in ("--env", "=".join(pair))), scratch)
        self._buildah("commit", "--rm", scratch, f"docker.io/{base if '/' in base else f'library/{base}'}")
        shutil.rmtree(root)
        self._bases.add(base)

    def _buildah(self, *words: str) -> str:
        done = subprocess.run(
            ["buildah", *self._storage, *words], capture_output=True, text=True, check=False, timeout=1800
        )
        assert done.returncode == 0, f"buildah {words[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout
