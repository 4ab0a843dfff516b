"""The tables that ``gemlet bench`` prints."""

from collections.abc import Sequence

from gemlet.bench import compare
from gemlet.bench.ceiling import Machine, Product
from gemlet.bench.compare import Contender
from gemlet.bench.speed import Row
from gemlet.cli import common


def speeds(rows: Sequence[Row]) -> str:
    """The speeds of a model, in llama-bench's layout."""
    head = (
        "model",
        "size",
        "params",
        "kernels",
        "threads",
        "test",
        "t/s",
        "GB/s",
        "GMAC/s",
        "peak memory",
    )
    cells = [
        (
            f"{row.model} {row.type}",
            common.size(row.bytes),
            common.amount(row.parameters),
            row.kernels,
            str(row.threads),
            row.test,
            f"{row.mean:.2f} ± {row.deviation:.2f}",
            _rate(row.weight_bytes * row.mean, row.read_share),
            _rate(row.multiply_adds * row.mean, row.multiply_add_share),
            common.size(row.peak_memory),
        )
        for row in rows
    ]
    return common.table(head, cells)


def ceilings(machines: Sequence[Machine], products: Sequence[Product]) -> str:
    """What the machine can do, then the products of each weight type beside that."""
    head = ("kernels", "threads", "read GB/s", "8-bit GMAC/s", "4-bit GMAC/s", "float32 GMAC/s")
    rates = [(m, (m.read_bandwidth, m.bytes, m.half_bytes, m.floats)) for m in machines]
    machine = common.table(head, [(m.kernels, str(m.threads), *map(_rate, figures)) for m, figures in rates])
    cells = []
    for p in products:
        rates_of_type = (_rate(p.one_token, p.one_token_share), _rate(p.many_tokens, p.many_tokens_share))
        cells.append((p.kernels, p.type, str(p.threads), *rates_of_type))
    product = common.table(("kernels", "type", "threads", "1 token, GB/s", "128 tokens, GMAC/s"), cells, left=2)
    return f"{machine}\n\n{product}\n"


def comparison(found: Sequence[Contender]) -> str:
    """The medians of every runtime, and how many times gemlet's they are."""
    rows = []
    for contender in found:
        medians, ratios = contender.medians(), compare.ratios(found[0], contender)
        cells = {
            metric: f"{value:.2f} ({ratios[metric]:.2f} x)" for metric, value in medians.items() if metric in ratios
        }
        rows.append((contender.name, *(cells.get(metric, "") for metric in compare.METRICS)))
    return common.table(("in brackets: gemlet over it", *compare.METRICS.values()), rows)


def _rate(per_second: float, share: float | None = None) -> str:
    """A rate in thousand millions, and its share of the ceiling where that is known."""
    if not per_second:  # another runtime, which does not tell
        return "-"
    return f"{per_second / 1e9:.1f}" + (f" ({share:.0%})" if share is not None else "")
