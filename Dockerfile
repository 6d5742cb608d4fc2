# One image for every process of the service. Alone (`docker run -v data:/data -p 127.0.0.1:8000:8000 IMAGE`) it
# runs everything, with the embedded PostgreSQL; docker-compose.yml gives each process a container of its own.
FROM python:3.11-slim-bookworm

WORKDIR /app
COPY requirements-image.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements-image.lock

COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
    && useradd --system --uid 10001 --create-home rag \
    && install --directory --owner rag --mode 0700 /data

USER rag
ENV PYTHONUNBUFFERED=1 RAG_DATA_DIR=/data RAG_SERVER__HOST=0.0.0.0
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["rag-service"]
CMD ["up"]
