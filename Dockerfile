# The command line on a CPU: docker build -t cbp-qsnn . && docker run --rm cbp-qsnn reproduce
# Rows and tables of a run stay in the container: mount a folder to keep them, for example
# docker run --rm -v "$PWD/results:/home/cbp/app/results" cbp-qsnn reproduce
FROM python:3.11-slim
# Whatever git Debian has: a pinned version leaves its archive with the next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home cbp
WORKDIR /home/cbp/app
COPY --chown=cbp:cbp . .
RUN pip install --no-cache-dir -c constraints.txt -e . && chown cbp:cbp /home/cbp/app
USER 1000
ENTRYPOINT ["python", "-m", "repro"]
CMD ["--help"]
