"""What a sample says, and what the rounds of it say together."""

from collections.abc import Callable, Sequence
from statistics import median

from .measure import percentile
from .results import PASSTHROUGH, Results, Sample, Scenario

Figure = Callable[[Sample], float | None]
NONE = "-"
MEGABYTE = 1_000_000


def samples(results: Results, scenario: Scenario, name: str) -> list[Sample]:
    return results.samples.get((scenario, name), [])


def values(results: Results, scenario: Scenario, name: str, figure: Figure) -> list[float]:
    """By rounds, without those that have none."""
    every = map(figure, samples(results, scenario, name))
    return [value for value in every if value is not None]


def ratios(results: Results, scenario: Scenario, name: str, figure: Figure) -> list[float]:
    """Against the pass-through, each within its round."""
    pairs = zip(samples(results, scenario, name), samples(results, scenario, PASSTHROUGH), strict=False)
    return [one / other for mine, its in pairs if (one := figure(mine)) and (other := figure(its))]


def differences(results: Results, scenario: Scenario, name: str, figure: Figure) -> list[float]:
    """From the pass-through, each within its round."""
    pairs = zip(samples(results, scenario, name), samples(results, scenario, PASSTHROUGH), strict=False)
    both = [(figure(mine), figure(its)) for mine, its in pairs]
    return [one - other for one, other in both if one is not None and other is not None]


def middle(found: Sequence[float], form: str) -> str:
    return form.format(median(found)) if found else NONE


def spread(found: Sequence[float], form: str) -> str:
    """From the lowest round to the highest, where there are several."""
    return f"{form} to {form}".format(min(found), max(found)) if len(found) > 1 else ""


def told(found: Sequence[float], form: str) -> str:
    """The median, with the lowest and highest round."""
    between = spread(found, form)
    return f"{middle(found, form)} ({between})" if between else middle(found, form)


def rate(sample: Sample) -> float:
    return (sample.chunks or sample.answers) / sample.seconds


def cpu(sample: Sample) -> float | None:
    """Seconds for 1,000."""
    done = sample.chunks or sample.answers
    return None if sample.cpu is None or not done else sample.cpu / done * 1000


def table_calls(sample: Sample) -> float | None:
    return sample.table_calls / sample.answers if sample.answers else None


def p50(sample: Sample) -> float | None:
    return percentile(sample.delays, 0.5) * 1000 if sample.delays else None


def p99(sample: Sample) -> float | None:
    return percentile(sample.delays, 0.99) * 1000 if sample.delays else None


def share(sample: Sample, cpu_seconds: float | None) -> float | None:
    """Of one core."""
    return None if cpu_seconds is None else cpu_seconds / sample.seconds
