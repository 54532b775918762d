"""What watches over the house are told, in the text format of Prometheus."""

import hmac
from collections.abc import Iterator, Sequence

from litestar import get
from litestar.di import NamedDependency
from litestar.response import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from heallog.application.sync.health import Health
from heallog.domain.errors import NotAuthenticated, NotFound
from heallog.domain.health import INFINITE, LAGS, METRICS, SUM, Gauges, Metrics
from heallog.domain.health import Metric as Declared
from heallog.entrypoints.http.auth import ApiRequest

Values = dict[tuple[str, ...], float]


@get("/metrics", include_in_schema=False, public=True)
async def metrics(
    request: ApiRequest, health: NamedDependency[Health], metrics_token: NamedDependency[str | None]
) -> Response[bytes]:
    """Counted over all processes: whichever answers, the numbers are the same. Only for who brings the token."""
    if metrics_token is None:
        raise NotFound("there is nothing at this address")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), metrics_token.encode()):
        raise NotAuthenticated("send the token of HEALLOG_METRICS_TOKEN as: Authorization: Bearer …")
    return Response(text(await health.metrics()), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def text(told: Metrics) -> bytes:
    """All of it, as it is scraped."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(told))
    return generate_latest(registry)


class _Told(Collector):
    """Numbers that stand in the database already."""

    def __init__(self, told: Metrics) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        values: dict[str, Values] = {}
        for (name, labels), value in self._told.meters:
            values.setdefault(name, {})[labels] = value
        for declared in METRICS.values():
            found = values.get(declared.name, {})
            if declared.buckets:
                yield _histogram(declared, found, values.get(declared.name + SUM, {}))
            else:
                yield _counter(declared, found)
        yield from _gauges(self._told.gauges, self._told.at.timestamp())


def _counter(declared: Declared, values: Values) -> Metric:
    family = CounterMetricFamily(declared.name, declared.says, labels=declared.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram(declared: Declared, values: Values, sums: Values) -> Metric:
    """Buckets are kept apart, and told as what is in them and in all below."""
    family = HistogramMetricFamily(declared.name, declared.says, labels=declared.labels)
    bounds = [*(f"{bound:g}" for bound in declared.buckets), INFINITE]
    for labels, total in sums.items():
        family.add_metric(labels, _added_up(bounds, [values.get((*labels, bound), 0) for bound in bounds]), total)
    return family


def _added_up(bounds: Sequence[str], counts: Sequence[float]) -> list[tuple[str, float]]:
    return [(bound, sum(counts[: number + 1])) for number, bound in enumerate(bounds)]


def _gauges(gauges: Gauges, now: float) -> Iterator[Metric]:
    devices = GaugeMetricFamily(
        "heallog_sync_devices",
        "Devices seen in the last 30 days, by how far they are behind at most (seconds).",
        labels=("behind_at_most",),
    )
    for lag, count in zip([*map(str, LAGS), INFINITE], [*gauges.behind, gauges.devices], strict=True):
        devices.add_metric((lag,), count)
    yield devices
    yield GaugeMetricFamily(
        "heallog_sync_most_behind_seconds", "How far the last device is behind.", gauges.most_behind_ms / 1000
    )
    oldest = gauges.waiting.oldest_at
    yield GaugeMetricFamily("heallog_quarantine_waiting", "Operations that wait for a person.", gauges.waiting.count)
    yield GaugeMetricFamily(
        "heallog_quarantine_oldest_seconds",
        "How long the oldest of them has been waiting.",
        0 if oldest is None else max(now - oldest.timestamp(), 0),
    )


HANDLERS = [metrics]
