# The image of `qwenkit upload --in-cluster`: docker build -t REGISTRY/qwenkit:VERSION .
# Where Docker Hub is out of reach: --build-arg PYTHON=your.mirror/library/python:3.11-slim
ARG PYTHON=python:3.11-slim
FROM ${PYTHON}
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY qwenkit qwenkit
# Without the extras: no Jupyter, no sandbox.
RUN pip install --no-cache-dir --no-compile --disable-pip-version-check -c constraints.txt . \
    && rm -rf /src
WORKDIR /tmp
ENV HOME=/tmp PYTHONUNBUFFERED=1
# A number: the kubelet cannot check a name for runAsNonRoot.
USER 65532:65532
# No init such as tini: as process 1, qwenkit handles SIGTERM itself (qwenkit/course/interrupts.py).
ENTRYPOINT ["qwenkit"]
