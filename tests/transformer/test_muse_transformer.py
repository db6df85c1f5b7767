"""The base transformer against a second one, written in plain functions, head by head; and what it refuses."""

import pytest
import torch
from muse_transformer.muse import MuseTransformer
from torch.nn.functional import gelu, layer_norm, linear

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.testing.fakes import embedding

WIDTH, HEADS, K, GRID = 24, 3, 11, [3, 4]


def muse(seed=0, **settings):
    torch.manual_seed(seed)
    model = MuseTransformer(K, GRID, text_width=8, width=WIDTH, layers=2, heads=HEADS, mlp=40, **settings)
    with torch.no_grad():  # weights far from their start, where every norm and bias shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def grids(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, K, (batch, *GRID), generator=generator)
    return torch.where(torch.rand(tokens.shape, generator=generator) < 0.5, MASK, tokens)


def attention_by_hand(state, name, x, memory, mask):
    """One row: float[N, width], float[M, width], bool[M]."""
    if f"{name}.project.weight" in state:
        query, key, value = (x @ part.T for part in state[f"{name}.project.weight"].split(WIDTH))
    else:
        query = x @ state[f"{name}.query.weight"].T
        key, value = (memory @ part.T for part in state[f"{name}.memory.weight"].split(WIDTH))

    def normed(vectors, gain):
        return vectors / (vectors.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain

    heads, size = [], WIDTH // HEADS
    for head in range(HEADS):
        cut = slice(head * size, (head + 1) * size)
        q, k = (
            normed(query[:, cut], state[f"{name}.norm_query.weight"]),
            normed(key[:, cut], state[f"{name}.norm_key.weight"]),
        )
        out = torch.zeros(len(x), size)
        for place in range(len(x)):
            weights = torch.stack([torch.exp(q[place] @ k[other] / size**0.5) * mask[other] for other in range(len(k))])
            out[place] = (weights / weights.sum()) @ value[:, cut]
        heads.append(out)
    return torch.cat(heads, -1) @ state[f"{name}.out.weight"].T


def logits_by_hand(state, tokens, text, mask):
    """One row: int64[h, w], float[T, D], bool[T] to float[h * w, K]."""

    def norm(x, name):
        return layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    def dense(x, name):
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    memory = norm(dense(text, "text_projection.0"), "text_projection.1")
    rows = [state["embed.weight"][K if token == MASK else token] for token in tokens.flatten().tolist()]
    x = torch.stack(rows) + state["positions"].reshape(-1, WIDTH)
    everything = torch.ones(len(x), dtype=torch.bool)
    for block in ("blocks.0", "blocks.1"):
        y = norm(x, f"{block}.norm1")
        x = x + attention_by_hand(state, f"{block}.self_attention", y, y, everything)
        if mask.any():
            x = x + attention_by_hand(state, f"{block}.cross_attention", norm(x, f"{block}.norm2"), memory, mask)
        x = x + dense(gelu(dense(norm(x, f"{block}.norm3"), f"{block}.mlp.0")), f"{block}.mlp.2")
    return dense(norm(gelu(dense(norm(x, "norm"), "head.0")), "head.2"), "head.3")


@pytest.mark.parametrize("grad", [True, False])
def test_it_is_what_the_plain_functions_say(grad):
    model, tokens, text = muse(), grids(3), embedding(3)
    text.mask[1] = False
    with torch.set_grad_enabled(grad):
        logits = model(tokens, model.condition(text)).detach()
    assert logits.shape == (3, *GRID, K)
    for row in range(3):
        expected = logits_by_hand(model.state_dict(), tokens[row], text.states[row], text.mask[row])
        torch.testing.assert_close(logits[row].flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_no_prompt_means_that_cross_attention_adds_nothing(training):
    model, silent = muse().train(training), muse().train(training)
    with torch.no_grad():
        for block in silent.blocks:
            block.cross_attention.out.weight.zero_()
    text, tokens = embedding(2), grids(2)
    null = model(tokens, model.condition(text.null()))
    assert torch.equal(null, silent(tokens, silent.condition(text)))
    mixed = TextEmbedding(text.states, text.mask & torch.tensor([[True], [False]]))
    both = model(tokens, model.condition(mixed))
    torch.testing.assert_close(both[1], null[1])
    assert (both[0] - null[0]).abs().max() > 1e-3
    assert both.isfinite().all()


def test_padding_does_not_matter():
    model, text, tokens = muse(), embedding(2), grids(2)
    other = text.states.clone()
    other[~text.mask] = 7.0
    logits = model(tokens, model.condition(text))
    torch.testing.assert_close(model(tokens, model.condition(TextEmbedding(other, text.mask))), logits)
    longer = TextEmbedding(torch.cat([text.states, other], 1), torch.cat([text.mask, torch.zeros_like(text.mask)], 1))
    torch.testing.assert_close(model(tokens, model.condition(longer)), logits)


def test_every_place_and_every_token_counts():
    model, conditioning = muse(), muse().condition(embedding(1))
    blank = torch.full((1, *GRID), MASK)
    logits = model(blank, conditioning)[0].flatten(0, 1)
    assert (logits[0] - logits[1]).abs().max() > 1e-3, "positions are not seen"
    known = blank.clone()
    known[0, 2, 3] = 4
    assert ((model(known, conditioning)[0].flatten(0, 1) - logits).abs().amax(-1) > 1e-4).all()


def test_checkpointing_changes_no_gradient():
    results = []
    for checkpointing in (False, True):
        model = muse(checkpointing=checkpointing).train()
        loss = model(grids(), model.condition(embedding())).square().mean()
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(plain, again) for plain, again in zip(*results, strict=True))


def test_checkpointing_computes_each_block_again(monkeypatch):
    model = muse(checkpointing=True)
    calls = []
    model.blocks[0].register_forward_pre_hook(lambda *given: calls.append(torch.is_grad_enabled()))
    model(grids(), model.condition(embedding())).sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        model(grids(), model.condition(embedding()))
    assert len(calls) == 3


def test_autocast_agrees_with_float32():
    model = muse()
    for context in (torch.enable_grad, torch.no_grad):
        with context():
            expected = model(grids(), model.condition(embedding()))
            with torch.autocast("cpu", torch.bfloat16):
                got = model(grids(), model.condition(embedding()))
        torch.testing.assert_close(got.float(), expected, atol=0.15, rtol=0.1)


def test_what_writes_into_the_residual_stream_starts_small():
    torch.manual_seed(0)
    model = MuseTransformer(64, [4, 4], text_width=8, width=64, layers=12, heads=4)
    for block in model.blocks:
        for writer in (block.self_attention.out, block.cross_attention.out, block.mlp[2]):
            assert writer.weight.std().item() == pytest.approx(0.02 / 6, rel=0.1)  # 0.02 / sqrt(3 * 12)
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.1)


def test_what_it_refuses():
    model = muse()
    with pytest.raises(ValueError, match=r"a grid of \(4, 4\) tokens was given, the transformer has grid \(3, 4\)"):
        model(torch.full((1, 4, 4), MASK), model.condition(embedding(1)))
    with pytest.raises(ValueError, match="base model and takes no low-resolution tokens; make it the first stage"):
        model.condition(embedding(1), torch.zeros(1, 2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": 5}, "heads is 5, which width 24 does not divide into; choose another of them"),
        ({"layers": 0}, "must be 1 or more"),
        ({"grid": [4]}, r"grid is \[4\]; give its two sides in tokens"),
        ({"grid": [0, 4]}, r"grid is \[0, 4\]; give its two sides in tokens"),
        ({"mlp": 0}, "must be 1 or more"),
    ],
)
def test_settings_that_can_not_be(wrong, said):
    with pytest.raises(ValueError, match=said):
        MuseTransformer(**{"codebook_size": K, "grid": GRID, "text_width": 8, "width": WIDTH, "heads": HEADS} | wrong)
