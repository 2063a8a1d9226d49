# A light pod image: a base with torch, the installer, and what a compile needs; no CUDA toolkit.
#
#   ./farm zipapp --index-url https://<your farm>/ --out dist/apex-install.pyz
#   docker build -t pod .
#   docker build -t pod --target baked --build-arg GPU=8.0,8.6 --build-arg INDEX_URL=https://<farm>/ .
#
# BASE      any image with a Python and a torch. The default's digest is the one that
#           github.com/KawhiQaQ/GAVE2-Challenge-8th-Solution names in its Dockerfile; this project
#           has not pulled it.
# COMPILER  a Debian package of g++ within nvcc's limit (12 for CUDA 12.1), or none: then a pod for
#           which there is no wheel gets a Python-only Apex.
ARG BASE=docker.io/pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime@sha256:68c022c2f4627943a6f3e574cfd2c8ae4256210d5f66ae2b117942e0a8d4fa9d

FROM ${BASE} AS pod
ARG COMPILER=g++-12
RUN set -eu; \
    [ "$COMPILER" != none ] || exit 0; \
    headers=$(python3 -c 'import os, sysconfig; print("" if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")) else "python3-dev")'); \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$COMPILER" $headers; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY run.sh dist/apex-install.pyz /opt/
ENTRYPOINT ["/opt/run.sh"]
# Sick where the installer said that Apex is not good enough; without a report nothing is known.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15m --retries=1 CMD ["python3", "-c", "\
import json, os, sys\n\
path = os.path.join(os.environ.get('TMPDIR') or '/tmp', 'apex-install.json')\n\
report = json.load(open(path)) if os.path.exists(path) else {}\n\
sys.exit(report['line'] if report.get('exit_code') else 0)"]

# For a user who may not write where torch is: the target is a folder of his, on PYTHONPATH.
FROM pod AS rootless
ARG APP_UID=1000
RUN install -d -o "$APP_UID" /opt/apex
ENV APEX_INSTALL_TARGET=/opt/apex PYTHONPATH=/opt/apex
USER ${APP_UID}

# With the wheel in it: the pod's start only looks whether it stands.
FROM pod AS baked
ARG INDEX_URL
ARG GPU
RUN python3 /opt/apex-install.pyz --index-url "$INDEX_URL" --gpu "$GPU" --at-least wheel \
      --cache-dir /tmp/apex-cache && \
    rm -rf /tmp/apex-cache /tmp/apex-install.json

FROM pod
