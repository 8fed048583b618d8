# mstar with the versions of the lock, for CPUs or for NVIDIA GPUs:
#   docker build -t mstar .
#   docker build -t mstar --build-arg DEVICE=cuda .
#   docker run --rm -v "$PWD/runs:/work/runs" mstar demo
#   docker run --rm --gpus all --ipc host -v "$PWD:/work" mstar fit --config ...
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/mstar
COPY constraints.txt ./
# torch comes first and alone, as in the Makefile, with the torchvision that fits it. PyPI's wheels for Linux bring CUDA.
# hadolint ignore=DL3013
RUN torch="$(grep '^torch==' constraints.txt)" \
    && if [ "$DEVICE" = cpu ]; then set -- --index-url https://download.pytorch.org/whl/cpu; fi \
    && pip install "$@" "$torch" torchvision
COPY pyproject.toml README.md LICENSE ./
COPY mstar mstar
COPY configs configs
RUN pip install -c constraints.txt '.[processors,qlora]'

# Where the user's own files are mounted.
WORKDIR /work
ENTRYPOINT ["mstar"]
CMD ["--help"]
