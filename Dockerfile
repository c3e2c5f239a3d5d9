FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY .import .import
COPY protocol protocol
COPY router router
RUN python -m venv /opt/leveret && /opt/leveret/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin leveret \
    && install --directory --owner=leveret --group=leveret /data
COPY --from=build /opt/leveret /opt/leveret
ENV PATH=/opt/leveret/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LEVERET_DATA=/data \
    LEVERET_LISTEN__AMQP=0.0.0.0:5672 \
    LEVERET_LISTEN__HTTP=0.0.0.0:15672
USER leveret
VOLUME /data
EXPOSE 5672 15672
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["leveret", "ping", "127.0.0.1:5672"]
ENTRYPOINT ["leveret"]
CMD ["serve"]
