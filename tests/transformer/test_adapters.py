"""Adapters in a transformer's weights against matrix algebra by numpy; what is refused, and in which words."""

import json

import numpy as np
import pytest
import torch
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution
from safetensors.torch import load_file, save_file

import muse_studio
from muse_studio.errors import UserError
from muse_studio.nn import lora
from muse_studio.nn.lora import Adapter
from muse_studio.runtime import weights

LAYERS = {"blocks.0.self_attention.project": (16, 48), "blocks.1.mlp.2": (64, 16)}
"""In and out of two of the linear layers."""


def muse(**more):
    torch.manual_seed(0)
    return MuseTransformer(12, [2, 3], text_width=8, width=16, layers=2, heads=2, **more)


def superres(**more):
    torch.manual_seed(0)
    return SuperResolution(
        12, [4, 4], 12, [2, 2], text_width=8, width=16, layers=2, low_layers=1, heads=2, block=2, **more
    )


def put(path, seed=1, rank=3, alpha=6.0, base=None, layers=LAYERS, **more):
    """An adapter's file of random matrices."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, (into, out) in layers.items():
        tensors[f"{name}.lora_A.weight"] = random.normal(size=(rank, into)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = random.normal(size=(out, rank)).astype(np.float32)
    said = {"adapter": {"rank": rank, "alpha": alpha, "base": base or lora.fingerprint(muse())}} | more
    save_file(
        {name: torch.from_numpy(each) for name, each in tensors.items()}, path, {"muse_settings": json.dumps(said)}
    )
    return tensors


@pytest.fixture
def base(tmp_path):
    """The address of a base model's weights."""
    weights.save(muse().state_dict(), tmp_path / "base.safetensors", {})
    return str(tmp_path / "base.safetensors")


@pytest.mark.filterwarnings("error")
def test_two_adapters_add_up_as_by_hand(tmp_path, base):
    one = put(tmp_path / "one.safetensors", seed=1, rank=3, alpha=6.0)
    two = put(tmp_path / "two.safetensors", seed=2, rank=1, alpha=0.5, layers=dict([*LAYERS.items()][:1]))
    given = [Adapter(str(tmp_path / "one.safetensors"), 0.8), Adapter(str(tmp_path / "two.safetensors"), -1.5)]
    mixed = muse(weights=base, adapters=given).state_dict()
    for name, weight in load_file(base).items():
        layer, expected = name.removesuffix(".weight"), weight.double().numpy()
        for matrices, factor in ((one, 0.8 * 6.0 / 3), (two, -1.5 * 0.5 / 1)):
            if f"{layer}.lora_A.weight" in matrices:
                product = matrices[f"{layer}.lora_B.weight"].astype(float) @ matrices[f"{layer}.lora_A.weight"]
                expected = expected + factor * product
        if layer in LAYERS:
            assert np.abs(expected - weight.numpy()).max() > 0.5
            np.testing.assert_allclose(mixed[name].numpy(), expected, atol=2e-6)
        else:
            assert torch.equal(mixed[name], weight), name


def test_scale_0_is_the_model_itself_and_two_that_are_opposed_are_nearly(tmp_path, base):
    put(tmp_path / "a.safetensors")
    address, plain = str(tmp_path / "a.safetensors"), muse(weights=base).state_dict()
    none = muse(weights=base, adapters=[Adapter(address, 0.0)]).state_dict()
    assert all(torch.equal(none[name], weight) for name, weight in plain.items())
    opposed = muse(weights=base, adapters=[Adapter(address, 0.7), Adapter(address, -0.7)]).state_dict()
    for name, weight in plain.items():
        torch.testing.assert_close(opposed[name], weight, atol=1e-5, rtol=0)
    assert all(torch.equal(muse(weights=base, adapters=[]).state_dict()[name], plain[name]) for name in plain)


def test_one_of_half_precision_is_widened(tmp_path, base):
    matrices = put(tmp_path / "a.safetensors", rank=2, alpha=2.0)
    halves = {name: torch.from_numpy(each).half() for name, each in matrices.items()}
    said = {"adapter": {"alpha": 2.0}}  # a file that does not say its base is taken at its word
    save_file(halves, tmp_path / "half.safetensors", {"muse_settings": json.dumps(said)})
    (name,) = list(LAYERS)[:1]
    got = muse(weights=base, adapters=[Adapter(str(tmp_path / "half.safetensors"))]).state_dict()[f"{name}.weight"]
    down, up = (halves[f"{name}.lora_{each}.weight"].double().numpy() for each in "AB")
    np.testing.assert_allclose(got.numpy(), muse().state_dict()[f"{name}.weight"].numpy() + up @ down, atol=2e-6)


def test_super_resolution_takes_them_too(tmp_path):
    weights.save(superres().state_dict(), tmp_path / "base.safetensors", {})
    layers = {"blocks.1.self_attention.out": (16, 16), "low_blocks.0.mlp.0": (16, 64)}
    matrices = put(tmp_path / "a.safetensors", layers=layers, base=lora.fingerprint(superres()))
    given = {"weights": str(tmp_path / "base.safetensors"), "adapters": [Adapter(str(tmp_path / "a.safetensors"), 0.5)]}
    got, plain = superres(**given).state_dict(), superres().state_dict()
    for name in layers:
        change = matrices[f"{name}.lora_B.weight"] @ matrices[f"{name}.lora_A.weight"]
        np.testing.assert_allclose(
            got[f"{name}.weight"], plain[f"{name}.weight"].numpy() + 0.5 * 6 / 3 * change, atol=2e-6
        )


def test_one_of_other_weights_is_warned_of_and_added(tmp_path, base):
    put(tmp_path / "a.safetensors", base="0" * 64)
    with pytest.warns(UserWarning, match=r"the adapter .*a\.safetensors was trained on other weights than these"):
        changed = muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])
    assert not torch.equal(
        changed.blocks[0].self_attention.project.weight, muse().blocks[0].self_attention.project.weight
    )


def test_a_fingerprint_tells_one_changed_bit():
    one, other = muse(), muse()
    assert lora.fingerprint(one) == lora.fingerprint(other)
    with torch.no_grad():
        other.head[3].bias[5] = torch.nextafter(other.head[3].bias[5], torch.tensor(1.0))
    assert lora.fingerprint(one) != lora.fingerprint(other)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            {"blocks.0.self_attention.project": (20, 48)},
            r"blocks\.0\.self_attention\.project\.lora_A\.weight is \[3, 20\], not \[3, 16\]",
        ),
        ({"blocks.1.mlp.2": (64, 8)}, r"blocks\.1\.mlp\.2\.lora_B\.weight is \[8, 3\], not \[16, 3\]"),
        (
            {"blocks.7.self_attention.out": (16, 16)},
            r"blocks\.7\.self_attention\.out\.lora_A\.weight is \[3, 16\], which belongs to no lin",
        ),
        ({"embed": (16, 12)}, r"embed\.lora_A\.weight is \[3, 16\], which belongs to no linear layer here"),
    ],
)
def test_one_of_another_model_is_refused_by_its_tensor(tmp_path, base, layers, said):
    put(tmp_path / "a.safetensors", layers=layers)
    with pytest.raises(UserError, match=rf"adapters: .*a\.safetensors is of another model than this one: {said}"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])
    with pytest.raises(UserError, match=said), torch.device("meta"):  # as `muse check` makes it
        muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])


def test_a_matrix_that_is_missing_or_one_too_many_is_named(tmp_path, base):
    put(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    up = tensors.pop("blocks.1.mlp.2.lora_B.weight")
    said = {"muse_settings": json.dumps({"adapter": {"alpha": 1}})}
    save_file(tensors, tmp_path / "less.safetensors", said)
    with pytest.raises(UserError, match=r"blocks\.1\.mlp\.2\.lora_B\.weight is missing, not \[16, 3\]"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "less.safetensors"))])
    save_file(tensors | {"blocks.1.mlp.2.lora_B.weight": up, "extra": up.clone()}, tmp_path / "more.safetensors", said)
    with pytest.raises(UserError, match=r"extra is \[16, 3\], which belongs to no linear layer here"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "more.safetensors"))])


def test_a_rank_of_nothing_is_refused(tmp_path, base):
    put(tmp_path / "a.safetensors", rank=0)
    with pytest.raises(UserError, match=r"lora_A\.weight is \[0, 16\], which"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])


def test_whole_weights_and_adapters_are_not_taken_for_each_other(tmp_path, base):
    put(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"holds no adapter, it has .*; whole weights are given as `weights`"):
        muse(weights=base, adapters=[Adapter(base)])
    with pytest.raises(UserError, match=r"weights: .*holds an adapter, not whole weights; give it in the list `adapt"):
        muse(weights=str(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match="adapters change weights, and there are none"):
        muse(adapters=[Adapter(str(tmp_path / "a.safetensors"))])


@pytest.mark.parametrize("said", [{}, {"adapter": 3}, {"adapter": {"alpha": "8"}}, {"adapter": {"alpha": 1e999}}])
def test_one_that_does_not_say_its_alpha_is_refused(tmp_path, base, said):
    tensors = {name: torch.from_numpy(each) for name, each in put(tmp_path / "a.safetensors").items()}
    save_file(tensors, tmp_path / "a.safetensors", {"muse_settings": json.dumps(said)})
    with pytest.raises(UserError, match="does not say its alpha"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])


def test_a_recipe_says_where_its_adapters_are_wrong(tmp_path, base):
    def problems(adapters):
        table = {"use": "muse", "codebook_size": 12, "grid": [2, 3], "text_width": 8, "width": 16, "layers": 2}
        return [str(each) for each in muse_studio.check(table | {"heads": 2, "weights": base, "adapters": adapters})]

    path = tmp_path / "a.safetensors"
    put(path)
    assert problems([{"weights": str(path)}, {"weights": str(path), "scale": -1}]) == []
    (said,) = problems([{"weights": str(path), "scale": ".nan"}])
    assert "adapters[0].scale" in said and "expected float" in said
    (said,) = problems([{"weights": str(path), "strength": 1}])
    assert "Adapter has no 'strength'" in said and "it takes: weights: str, scale: float = 1.0" in said
    (said,) = problems([{"weights": str(tmp_path / "none.safetensors")}])
    assert "no weights at" in said
    (said,) = problems([{"weights": base}])
    assert "adapters" in said and "holds no adapter" in said
    with pytest.raises(ValueError, match="scale is nan; give a number"):
        Adapter(str(path), float("nan"))


def test_a_damaged_one_is_told_as_such(tmp_path, base):
    put(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:-8])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        muse(weights=base, adapters=[Adapter(str(tmp_path / "a.safetensors"))])
