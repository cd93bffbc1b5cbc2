# Headwater with the example bank. What it connects to is said by the environment: see compose.yaml.
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/headwater
COPY requirements/image.txt requirements/
RUN pip install --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-deps --no-build-isolation . \
    && useradd --create-home --uid 10001 headwater \
    && install -d -o headwater -g headwater /var/lib/headwater
COPY examples/bank examples/bank

USER headwater
WORKDIR /opt/headwater/examples/bank
ENV HEADWATER_DATA=/var/lib/headwater
EXPOSE 8080
ENTRYPOINT ["headwater"]
CMD ["up", "--host", "0.0.0.0"]
