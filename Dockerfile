# The command line, for `docker run --read-only --network none`: see docs/hospital.md
FROM python:3.13-slim AS build
WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY bundle bundle
COPY configs configs
COPY unetpp_monai unetpp_monai
# torch first and alone, as in the Makefile
RUN python -m venv /opt/unetpp \
    && /opt/unetpp/bin/pip install --no-cache-dir --constraint constraints.txt torch \
    && /opt/unetpp/bin/pip install --no-cache-dir --constraint constraints.txt '.[fast,pacs]'

FROM python:3.13-slim
COPY --from=build /opt/unetpp /opt/unetpp
RUN useradd --uid 10001 --create-home unetpp
USER 10001:10001
ENV PATH=/opt/unetpp/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
ENTRYPOINT ["unetpp"]
CMD ["--help"]
