# The service's two processes that touch no media: the API with its page, and the worker that rents GPUs.
#   docker build -t kangklip-api -f infra/docker/api.Dockerfile .
#   docker build -t kangklip-nosana --target nosana -f infra/docker/api.Dockerfile .
FROM python:3.11.13-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=1
WORKDIR /app
RUN useradd --uid 10001 --create-home --home-dir /var/lib/kangklip kangklip

FROM base AS installed
COPY infra/docker/install.sh infra/docker/
COPY requirements/ requirements/

FROM installed AS installed-nosana
RUN infra/docker/install.sh nosana /opt/venv
COPY . .
RUN infra/docker/install.sh project /opt/venv

FROM installed AS installed-api
RUN infra/docker/install.sh api /opt/venv
COPY . .
RUN infra/docker/install.sh project /opt/venv

FROM base AS nosana
COPY --from=installed-nosana /opt/venv /opt/venv
COPY --from=installed-nosana /app /app
ENV PREFECT_HOME=/var/lib/kangklip/prefect
USER kangklip
CMD ["prefect", "worker", "start", "--pool", "nosana-gpu", "--with-healthcheck"]

FROM base AS api
COPY --from=installed-api /opt/venv /opt/venv
COPY --from=installed-api /app /app
ENV HOST=0.0.0.0
USER kangklip
EXPOSE 8000
CMD ["kangklip", "api"]
