# UniAVGen's server.  docker build -t uniavgen .
# With a GPU:         docker build -t uniavgen:cuda --build-arg DEVICE=cuda --build-arg EXTRAS=serve,postgres,quant .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cpu or cuda. torch's wheels on PyPI bring CUDA's libraries, so both images begin with the same plain Python.
ARG DEVICE=cpu
ARG EXTRAS=serve,postgres
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/uniavgen
# Dependencies change seldom: they are a layer of their own, which a change of the source leaves as it is.
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py pyproject.toml "${EXTRAS}" > requirements.txt
RUN case "${DEVICE}" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "DEVICE is cpu or cuda, got ${DEVICE}" >&2; exit 2 ;; \
    esac; \
    torch=$(grep '^torch[<>=]' requirements.txt) \
    && /opt/uniavgen/bin/pip install --index-url "${index}" "${torch}" \
    && /opt/uniavgen/bin/pip install --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY src src
RUN python -m pip wheel --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/uniavgen --create-home uniavgen
COPY --from=build /opt/uniavgen /opt/uniavgen
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    /opt/uniavgen/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
ENV PATH=/opt/uniavgen/bin:$PATH \
    HF_HOME=/var/lib/uniavgen/huggingface \
    XDG_CONFIG_HOME=/var/lib/uniavgen/config \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/uniavgen
VOLUME /var/lib/uniavgen
EXPOSE 7860
# A model on the hub is downloaded before the server answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
ENTRYPOINT ["uniavgen"]
CMD ["serve", "--host", "0.0.0.0", "--port", "7860", "--data-dir", "/var/lib/uniavgen/jobs", "--api-keys", "/var/lib/uniavgen/keys.txt"]
