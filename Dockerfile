# Canopy in a container; docs/container.md says how it is used. Two variants:
#   docker build --tag canopy:cpu .
#   docker build --tag canopy:cuda --build-arg VARIANT=cuda .
# Further build arguments: EXTRAS=ray,slurm,s3 (what pyproject.toml calls so), TORCH_CPU_INDEX.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG VARIANT=cpu

FROM ${PYTHON_IMAGE} AS install
ARG VARIANT
ARG EXTRAS=s3
# PyPI's torch brings CUDA, several GB of it. Torch's own index has the same release without, as
# 2.14.1+cpu, which pip prefers to 2.14.1.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/canopy
ENV PATH=/opt/canopy/bin:$PATH
WORKDIR /source
# What Canopy needs is a layer of its own, which a change of Canopy does not build again.
COPY pyproject.toml ./
RUN touch README.md LICENSE \
    && if [ "$VARIANT" = cpu ]; then set -- --extra-index-url "$TORCH_CPU_INDEX"; fi \
    && pip install "$@" ".[$EXTRAS]"
COPY README.md LICENSE ./
COPY canopy_search canopy_search
COPY search search
COPY dashboards dashboards
COPY training training
COPY storage storage
COPY filestore filestore
RUN pip install --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE} AS system-cpu
# initdb wants a name for its user, and `--user 12345` has none: nss_wrapper gives it one.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnss-wrapper \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --shell /usr/sbin/nologin canopy \
    && mkdir --mode 1777 /state

FROM system-cpu AS system-cuda
# torch.compile builds the code that starts its kernels with a C compiler, at run time.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM system-${VARIANT}
LABEL org.opencontainers.image.title=canopy \
      org.opencontainers.image.description="Hyperparameter search for multi-label image classifiers" \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=install /opt/canopy /opt/canopy
COPY container/entrypoint.py /opt/canopy/entrypoint.py
# HOME lies where every user may write: pretrained weights and ClearML's settings are kept there.
ENV PATH=/opt/canopy/bin:$PATH CANOPY_HOME=/state HOME=/state
VOLUME /state
# canopy.yaml, labels and images, which may be mounted read-only.
WORKDIR /data
EXPOSE 8080
USER 1000:1000
ENTRYPOINT ["python", "/opt/canopy/entrypoint.py"]
CMD ["--help"]
