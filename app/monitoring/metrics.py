"""What is measured, by Prometheus' naming conventions.

https://prometheus.io/docs/practices/naming/. With several worker processes, each writes its
values into files (`PROMETHEUS_MULTIPROC_DIR`, which must be set before this module is
imported), and whichever is asked adds them up. A gauge's `multiprocess_mode` says how: `live…`
forgets a worker that has ended.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# When each series began, a third of the answer, which no rule or dashboard asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

# HTTP

HTTP_REQUESTS = Counter(
    "lookout_http_requests_total",
    "Answered requests; route is the template of the path, `unmatched` where there is none.",
    ["route", "method", "status"],
)
HTTP_REQUEST_SECONDS = Histogram(
    "lookout_http_request_duration_seconds",
    "From a request's arrival to the end of its answer.",
    ["route", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_REQUESTS_IN_PROGRESS = Gauge(
    "lookout_http_requests_in_progress",
    "Requests that have arrived and are not answered yet.",
    multiprocess_mode="livesum",
)

CONNECTIONS_REFUSED = Counter(
    "lookout_connections_refused_total",
    "Connections over a limit: of the process, or of their address.",
    ["reason"],
)

# Inference

INFERENCE_ITEMS = Counter(
    "lookout_inference_items_total",
    "Inputs that reached a model's queue, by what became of them: answered, failed (the model "
    "raised), cancelled (the caller had gone) or expired (the deadline had passed).",
    ["model", "outcome"],
)
INFERENCE_REFUSALS = Counter(
    "lookout_inference_refusals_total",
    "Inputs that were not queued: queue_full, shed (refused early, as the caller just before), "
    "deadline (it would be missed) or unavailable.",
    ["model", "reason"],
)
INFERENCE_QUEUE_WAIT_SECONDS = Histogram(
    "lookout_inference_queue_wait_seconds",
    "The longest wait in the queue of each batch.",
    ["model"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
INFERENCE_BATCH_ITEMS = Histogram(
    "lookout_inference_batch_items",
    "Inputs that went through a model together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
INFERENCE_BATCH_SECONDS = Histogram(
    "lookout_inference_batch_duration_seconds",
    "Time of one batch on a model's thread.",
    ["model"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
INFERENCE_QUEUE_ITEMS = Gauge(
    "lookout_inference_queue_items",
    "Inputs that wait for a model.",
    ["model"],
    multiprocess_mode="livesum",
)
INFERENCE_QUEUE_CAPACITY_ITEMS = Gauge(
    "lookout_inference_queue_capacity_items",
    "Inputs that may wait for a model before callers are refused.",
    ["model"],
    multiprocess_mode="livesum",
)
MODEL_READY = Gauge(
    "lookout_model_ready",
    "1 while the model is loaded and serves in every worker, else 0.",
    ["model"],
    multiprocess_mode="livemin",
)
MODEL_INFO = Gauge(
    "lookout_model_info",
    "Always 1; the labels say what is loaded.",
    ["model", "version", "task", "device"],
    multiprocess_mode="livemax",
)
MODEL_RESTARTS = Counter(
    "lookout_model_restarts_total",
    "Times that a model was loaded again because its thread had died.",
    ["model"],
)

# Streams

STREAMS_OPEN = Gauge("lookout_streams_open", "Open WebSocket streams.", multiprocess_mode="livesum")
STREAMS_REFUSED = Counter(
    "lookout_streams_refused_total", "Streams that were over a limit when they connected."
)
STREAM_FRAMES_RECEIVED = Counter("lookout_stream_frames_received_total", "Frames that arrived.")
STREAM_FRAMES = Counter(
    "lookout_stream_frames_total",
    "Frames by what became of them: answered, failed (answered with an error) or dropped "
    "(replaced by a newer one before their turn).",
    ["outcome"],
)

# Cache, database, history, accounts

CACHE_REQUESTS = Counter(
    "lookout_cache_requests_total", "Look-ups in the prediction cache.", ["result"]
)
CACHE_EVICTIONS = Counter("lookout_cache_evictions_total", "Predictions forgotten for room.")
CACHE_BYTES = Gauge(
    "lookout_cache_bytes", "Memory of the prediction cache.", multiprocess_mode="livesum"
)
DATABASE_CONNECTIONS_IN_USE = Gauge(
    "lookout_database_connections_in_use",
    "Connections taken from the pool.",
    multiprocess_mode="livesum",
)
DATABASE_POOL_SIZE = Gauge(
    "lookout_database_pool_size",
    "Connections that the pool keeps; twice as many may be in use under load.",
    multiprocess_mode="livesum",
)
HISTORY_COMMITS = Counter(
    "lookout_history_commits_total",
    "Transactions of the history; records over commits is the size of a commit group.",
)
HISTORY_RECORDS = Counter(
    "lookout_history_records_total", "Records, by whether they were kept.", ["outcome"]
)
HISTORY_PENDING_RECORDS = Gauge(
    "lookout_history_pending_records",
    "Records that wait for their transaction.",
    multiprocess_mode="livesum",
)
LOGIN_FAILURES = Counter("lookout_login_failures_total", "Passwords that did not match.")

# The service

BUILD_INFO = Gauge(
    "lookout_build_info",
    "Always 1; the labels say what runs.",
    ["version", "python", "environment"],
    multiprocess_mode="livemax",
)
WORKERS = Gauge("lookout_workers", "Worker processes that serve.", multiprocess_mode="livesum")
WORKER_MEMORY_BYTES = Gauge(
    "lookout_worker_resident_memory_bytes",
    "Memory of the worker processes together.",
    multiprocess_mode="livesum",
)
DATA_DISK_FREE_BYTES = Gauge(
    "lookout_data_disk_free_bytes",
    "Free space where SQLite keeps its file; not there with PostgreSQL.",
    # A metric without labels is there from the start, as 0: a full disk.
    ["storage"],
    multiprocess_mode="livemin",
)
