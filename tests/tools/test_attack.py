"""The attacks run, and more than the limit is a failure. What the proxy withstands is measured by hand."""

import subprocess
import sys

import pytest

from tools.attack.__main__ import FLOODS
from tools.attack.flood import Attack, Outcome
from tools.attack.stage import DAY, TOTAL
from tools.processes import ROOT

pytestmark = pytest.mark.one_python


def test_every_attack_has_a_name_of_its_own() -> None:
    assert len({attack.name for attack in FLOODS}) == len(FLOODS) > 15


@pytest.mark.parametrize(
    ("billed", "reached", "failed"),
    [(1000, None, False), (1001, None, True), (999, 969, True), (999, 970, False)],
)
def test_too_much_or_an_early_refusal_is_a_failure(billed: int, reached: int | None, failed: bool) -> None:
    outcome = Outcome(Attack("ordinary", "{}", 1000, at_least=0.97), DAY, billed, 500, reached)
    assert outcome.failed is failed
    assert f"{billed / 1000:.3f}" in str(outcome)


def test_quick_attack_prints_what_was_billed_and_charged() -> None:
    command = [sys.executable, "-m", "tools.attack", "--only", "no usage in a stream", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    heading, *rows = ran.stdout.splitlines()
    assert "billed" in heading and "÷ limit" in heading
    assert [row.split("  ")[0] for row in rows] == ["no usage in a stream"] * 2
    assert DAY in rows[0] and TOTAL in rows[1]
