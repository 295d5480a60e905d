# The harness in a container:  docker build -t noisy-label-harness . && docker run --rm noisy-label-harness components
# Results and data stay outside:  docker run --rm -v "$PWD/results:/results" -v "$PWD/data:/data" noisy-label-harness run suite:default
# The leaderboard listens on the container's own loopback only; run it with --network host, or outside on the same results.
FROM python:3.12-slim AS built
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir "build>=1.2,<2" && python -m build --wheel --outdir /wheels

FROM python:3.12-slim
COPY --from=built /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl \
    && rm -r /wheels \
    && useradd --create-home --uid 1000 harness \
    && mkdir /results /data \
    && chown harness:harness /results /data
USER 1000
WORKDIR /home/harness
ENV HARNESS_RESULTS=/results HARNESS_DATA=/data
VOLUME ["/results", "/data"]
ENTRYPOINT ["harness"]
CMD ["--help"]
