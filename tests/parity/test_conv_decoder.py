"""The convolutional decoder of data2vec 2.0 against torch's layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jepa_speech.nn.conv_decoder import ConvDecoder  # noqa: E402
from jepa_speech.nn.module import Pure  # noqa: E402


def test_it_is_torch_s_convolutions_norms_and_residuals():
    """Widths 8, 4, 4, 8: the first convolution has no residual."""
    decoder = Pure(lambda rngs: ConvDecoder(8, (4, 4), 7, 2, jnp.float32, rngs))
    params, x = decoder.init(jax.random.key(0)), np.random.default_rng(0).normal(size=(1, 20, 8)).astype(np.float32)
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases are 0 at first
    y = torch.from_numpy(x)
    for i in range(2):
        kernel, bias = (torch.tensor(np.asarray(params[name][i])) for name in ("kernels", "biases"))
        z = torch.nn.functional.conv1d(y.mT, kernel.permute(2, 1, 0), bias, padding=3, groups=2).mT
        z = torch.nn.functional.gelu(torch.nn.functional.layer_norm(z, (4,)))
        y = z if i == 0 else y + z
    expected = y.numpy() @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])
    inside = jnp.arange(26) < 20
    padded = jnp.pad(x, ((0, 0), (0, 6), (0, 0)), constant_values=9.0)
    np.testing.assert_allclose(decoder.apply(params, padded, inside[None])[:, :20], expected, atol=2e-5)
