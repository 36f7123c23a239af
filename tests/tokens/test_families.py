"""What is known about a model, by its name."""

from __future__ import annotations

import pytest

from shared.tokens.families import UNKNOWN, family_of


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-35-turbo-16k", "gpt-3.5-turbo"),
        ("text-embedding-3-large", "text-embedding-ada-002"),
        ("o3-mini", "o3"),
        ("gpt-6.1-sol", "gpt-6.1"),
    ],
)
def test_a_dated_or_longer_name_belongs_to_its_family(model: str, like: str) -> None:
    assert family_of(model) == family_of(like) != UNKNOWN


@pytest.mark.parametrize(
    "model", ["", "-", "gpt-5.9", "gpt-7", "gpt", "my-gpt-4o", "grok-4", "o", "\uff47pt-4o"]
)
def test_an_unknown_name_has_no_window_and_may_reason(model: str) -> None:
    family = family_of(model)
    assert (family.context_tokens, family.may_reason) == (None, True)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        *(("gpt-4o", "o200k_base"), ("gpt-4.1", "o200k_base"), ("o1", "o200k_base"), ("gpt-5", "o200k_base")),
        *(
            ("gpt-4", "cl100k_base"),
            ("gpt-35-turbo", "cl100k_base"),
            ("text-embedding-3-small", "cl100k_base"),
        ),
    ],
)
def test_the_tokenizer_of_a_family(model: str, encoding: str) -> None:
    assert family_of(model).encodings == (encoding,)


def test_an_unknown_model_is_counted_with_both_tokenizers() -> None:
    assert set(UNKNOWN.encodings) == {"o200k_base", "cl100k_base"}


@pytest.mark.parametrize(("model", "reasons"), [("gpt-4o", False), ("gpt-4.1", False), ("gpt-5-chat", False)])
def test_models_that_do_not_reason(model: str, reasons: bool) -> None:
    assert family_of(model).may_reason is reasons


@pytest.mark.parametrize(
    "model", ["o1", "o4-mini", "gpt-5", "gpt-5-nano", "gpt-5.4", "gpt-6-astra", "gpt-oss-120b"]
)
def test_models_that_may_reason(model: str) -> None:
    assert family_of(model).may_reason


@pytest.mark.parametrize(
    "size", [(1, 1), (512, 512), (513, 1), (2048, 4096), (9000, 6000), (1, 60_000), None]
)
@pytest.mark.parametrize("detail", ["low", "high", "auto", "original"])
def test_no_known_model_charges_more_for_a_picture_than_an_unknown_one(
    size: tuple[int, int] | None, detail: str
) -> None:
    for model in (
        "gpt-4o-mini",
        "gpt-4.1-nano",
        "gpt-5-codex",
        "gpt-5.2",
        "gpt-5.5",
        "gpt-6.1",
        "o4-mini",
        "o1",
    ):
        assert family_of(model).picture_tokens(size, detail) <= UNKNOWN.picture_tokens(size, detail)
