# Agent Mode in a container; compose.yaml runs it with Open WebUI and PostgreSQL. More: docs/docker.md

FROM python:3.12-slim AS dependencies
COPY requirements.lock ./
RUN python -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock

FROM python:3.12-slim
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /opt/agent-mode
COPY agent_mode/ agent_mode/
COPY personas/ personas/
COPY pipelines/ pipelines/
COPY strategies/ strategies/
COPY valves/ valves/
# The server's user may not write here, so what Python would keep is made now.
RUN /opt/venv/bin/python -m compileall -q agent_mode

# A number, so that Kubernetes can see that it is not root.
RUN install -d -m 700 -o 10001 -g 10001 /data
USER 10001:10001
VOLUME /data
ENV HOST=0.0.0.0 PORT=9099 AGENT_MODE_DATA_DIR=/data HOME=/tmp
EXPOSE 9099
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/venv/bin/python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', os.environ['PORT'], timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["/opt/venv/bin/python", "-m", "agent_mode", "serve"]
