"""Devices share out rows; what has no rows stays whole."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.nn.batch_sharding import by_rows


def test_rows_are_shared_out_and_what_has_none_is_whole_wherever_it_stands() -> None:
    seen = []

    @by_rows("t c, b t, b -> b t c, b c t")
    def function(scale: int, table: jax.Array, x: jax.Array, offset: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen.append((table.shape, x.shape, offset.shape))
        y = scale * x[:, :, None] * table + offset[:, None, None]
        return y, y.swapaxes(1, 2)

    arrays = jnp.arange(6.0).reshape(3, 2), jnp.arange(12.0).reshape(4, 3), jnp.arange(4.0)
    mesh = jax.make_mesh((2, 2), ("data", "model"), (jax.sharding.AxisType.Auto,) * 2)
    rows, columns = jax.NamedSharding(mesh, jax.P("data")), jax.NamedSharding(mesh, jax.P(None, "model"))
    table, x, offset = arrays
    placed = jax.device_put(table, columns), jax.device_put(x, rows), jax.device_put(offset, rows)
    got = jax.jit(function, static_argnums=0)(3, *placed)
    y = 3 * x[:, :, None] * table + offset[:, None, None]
    for a, b in zip(got, (y, y.swapaxes(1, 2)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.sharding.spec[0] == "data"
    assert ((3, 2), (2, 3), (2,)) in seen  # what a device computed
