"""Codes as tokens: order, groups of bits, and the way back."""

from __future__ import annotations

import pytest
import torch

from vqlab import InputError
from vqlab.quantize import BinarySphericalQuantizer, LookupFreeQuantizer, TokenLayout


def grids(num_codes: int, *shape: int) -> torch.Tensor:
    return torch.randint(num_codes, shape, generator=torch.Generator().manual_seed(0))


def test_all_codes_of_a_vector_come_before_the_next_vector() -> None:
    indices = grids(16, 2, 3, 4, 5)
    tokens = TokenLayout(16, 5).tokens(indices, 2)
    expected = [
        [int(indices[image, row, column, place]) for row in range(3) for column in range(4) for place in range(5)]
        for image in range(2)
    ]
    assert tokens.tolist() == expected


@pytest.mark.parametrize("num_codes", [1, 2, 1000, 1 << 16, (1 << 16) + 1, 100_000, 1 << 18, 1 << 33, 1 << 62])
@pytest.mark.parametrize("places", [1, 3])
def test_tokens_decode_to_the_same_indices(num_codes: int, places: int) -> None:
    layout = TokenLayout(num_codes, places)
    indices = grids(num_codes, 2, 4, 5, *([places] if places > 1 else []))
    indices.view(-1)[:2] = torch.tensor([0, num_codes - 1])
    tokens = layout.tokens(indices, 2)
    assert tokens.shape == (2, 20 * layout.tokens_per_vector)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < layout.vocabulary <= 1 << 16
    assert torch.equal(layout.indices(tokens, (4, 5)), indices)


def test_an_index_of_many_bits_is_groups_of_signs() -> None:
    """The tokens of BSQ with 18 bits are the numbers of its first nine signs and of its last nine."""
    layer = BinarySphericalQuantizer(18, 18, channel_dim=-1)
    z_e = torch.randn(7, 18, generator=torch.Generator().manual_seed(0))
    indices = layer(z_e).indices
    tokens = TokenLayout(layer.num_codes).tokens(indices, 1).view(7, 2)
    places = 2 ** torch.arange(8, -1, -1)
    signs = (z_e > 0).long().view(7, 2, 9)
    assert torch.equal(tokens, (signs * places).sum(dim=-1))
    assert torch.equal(layer.decode(TokenLayout(1 << 18).indices(tokens.flatten(), (7,))), layer(z_e).z_q)


def test_the_vocabulary_of_few_codes_is_the_number_of_codes() -> None:
    layer = LookupFreeQuantizer(10, 8)
    layout = TokenLayout(layer.num_codes, layer.codes_per_vector)
    assert (layout.vocabulary, layout.tokens_per_vector) == (1024, 1)
    assert (TokenLayout(1 << 17).vocabulary, TokenLayout(1 << 40).tokens_per_code) == (512, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TokenLayout(0), "num_codes=0"),
        (lambda: TokenLayout(4, 0), "codes_per_vector=0"),
        (lambda: TokenLayout(4).tokens(torch.tensor([[4]]), 2), r"indices: from 4 to 4, must be in 0…3"),
        (lambda: TokenLayout(4, 2).tokens(torch.zeros(2, 2, 3).long(), 2), "2 codes for a vector"),
        (lambda: TokenLayout(4).tokens(torch.zeros(2).long(), 2), "2 axes of a grid"),
        (lambda: TokenLayout(4, 2).indices(torch.zeros(7).long(), (2, 2)), r"2 · 2 · 2 = 8 tokens"),
        (lambda: TokenLayout(4).indices(torch.full((4,), -1), (2, 2)), "tokens: from -1"),
        (lambda: TokenLayout(100_000).indices(torch.full((2,), 511), (1, 1)), "0…99999"),
    ],
)
def test_what_is_no_sequence_of_tokens_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
