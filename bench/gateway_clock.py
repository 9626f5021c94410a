"""What the gateway says of its own time: histograms of the ops listener's `/metrics`."""

import ssl
from typing import Final

from aiohttp import ClientSession, TCPConnector
from prometheus_client.parser import text_string_to_metric_families

from bench.figures import Totals

# Name of a histogram, the label that tells its series apart (or none), our word for it.
_SERIES: Final = {
    "panward_stage_duration_seconds": ("stage", "stage/"),
    "panward_transit_request_duration_seconds": ("op", "call/vault "),
    "panward_transit_queue_wait_seconds": ("op", "call/queue for "),
    "panward_store_duration_seconds": ("op", "call/store "),
    "panward_ledger_append_duration_seconds": ("", "call/ledger append"),
    "panward_http_request_duration_seconds": ("route", "stage/whole "),
    "panward_transit_batch_items": ("op", "items/"),
    "panward_ledger_batch_entries": ("", "items/ledger"),
}


async def read_totals(ops_url: str, ca_file: str) -> Totals:
    """Sum and count of each series that the report tells of."""
    context = ssl.create_default_context(cafile=ca_file)
    async with (
        ClientSession(connector=TCPConnector(ssl=context)) as session,
        session.get(f"{ops_url}/metrics") as response,
    ):
        return totals_in(await response.text())


def totals_in(exposition: str) -> Totals:
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(exposition):
        if family.name not in _SERIES:
            continue
        label, word = _SERIES[family.name]
        for sample in family.samples:
            if sample.labels.get("listener") == "ops":
                continue  # that is us, asking
            at = {f"{family.name}_sum": 0, f"{family.name}_count": 1}.get(sample.name)
            if at is not None:
                series = word + (sample.labels.get(label, "") if label else "")
                found.setdefault(series, [0.0, 0.0])[at] += sample.value
    return {series: (total, count) for series, (total, count) in found.items()}
