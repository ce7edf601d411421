# syntax=docker/dockerfile:1

# CPU:  docker build -t lookout .
# CUDA: docker build -t lookout:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#       docker run --gpus all … (the wheels bring the CUDA libraries; the host needs its driver)
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.txt requirements-observability.txt /build/
RUN python -m venv /opt/venv
# torch alone comes from its own index: everything else is the same in all variants.
RUN /opt/venv/bin/pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' /build/requirements.txt)"
RUN /opt/venv/bin/pip install -r /build/requirements.txt -r /build/requirements-observability.txt
COPY app /app/app
COPY alembic /app/alembic
COPY models /app/models
COPY alembic.ini gunicorn.conf.py prestart.sh /app/
# Nothing can write it later: the root file system may be read-only.
RUN /opt/venv/bin/python -m compileall -q /app/app /app/alembic

FROM python:${PYTHON_VERSION}-slim
RUN groupadd --gid 10001 lookout \
    && useradd --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin lookout \
    && install --directory --owner=lookout --group=lookout /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATABASE_URL=sqlite+aiosqlite:////data/lookout.db \
    HF_HOME=/data/huggingface
WORKDIR /app
USER 10001:10001
# SQLite's file and the models fetched from the hub. Nothing else is written but /tmp.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/ready', timeout=4)"]
# Kubernetes migrates in an init container and names `gunicorn` alone.
CMD ["sh", "-c", "./prestart.sh && exec gunicorn"]
