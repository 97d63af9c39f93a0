"""The nearest solid at each sample of an image: a depth buffer for batches of bones with flesh around them."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def rasterise(made: SimpleNamespace, x: torch.Tensor, y: torch.Tensor) -> SimpleNamespace:
    """What the samples of a grid show.

    Args:
        made: the solids, as ``toy_body.solids`` returns them.
        x: [B, w]; y: [B, h], places of the samples in the camera frame, evenly spaced.

    Returns:
        solid [B, h, w] uint8, 0 where there is none, else its row in ``toy_body.SOLIDS`` plus one. And for each of the
        N samples that show one, in order: sample, image and row [N] int64, its index in the flat grid, its image and
        its solid; along [N], place along the bone (0 start, 1 end); across [N], place across it (-1 to 1); facing [N],
        the normal's part towards the camera.
    """
    batch, height, width = len(x), y.shape[1], x.shape[1]
    samples = batch * height * width
    depth = torch.full((samples,), -100.0)
    solid = torch.zeros(samples, dtype=torch.uint8)
    along, across, facing = torch.empty(samples), torch.empty(samples), torch.empty(samples)
    for index in range(made.present.shape[1]):
        owners = made.present[:, index].nonzero()[:, 0]
        if not len(owners):
            continue
        of_solid = {name: values[owners, index] for name, values in vars(made).items()}
        # A solid is small: only a window around it is looked at, of one size for the batch, at its own place in each.
        columns, rows = _window(of_solid, 0, x[owners]), _window(of_solid, 1, y[owners])
        inside, z, t, s, nz = _evaluate(of_solid, x[owners].gather(1, columns), y[owners].gather(1, rows))
        place = (owners[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
        place = place.flatten()
        nearer = z.flatten() > depth.index_select(0, place)
        won = (nearer & inside.flatten()).nonzero()[:, 0]
        place = place.index_select(0, won)
        for buffer, value in ((depth, z), (along, t), (across, s), (facing, nz)):
            buffer.index_copy_(0, place, value.flatten().index_select(0, won))
        solid.index_fill_(0, place, index + 1)
    shown = solid.nonzero()[:, 0]
    along, across, facing = (buffer.index_select(0, shown) for buffer in (along, across, facing))
    row = solid.index_select(0, shown).long() - 1
    return SimpleNamespace(
        solid=solid.view(batch, height, width), sample=shown, image=shown // (height * width), row=row,
        along=along, across=across, facing=facing,
    )  # fmt: skip


def _window(of_solid: dict[str, torch.Tensor], axis: int, grid: torch.Tensor) -> torch.Tensor:
    """[B, n] int64: the samples along x (axis 0) or y (axis 1) that the solid can reach, n the most of any image."""
    w0, w1, w2 = of_solid["width"].unbind(1)
    # The parabola of widths stays under its Bezier control points, the middle one of which is above w1.
    reach = torch.stack([w0, 2 * w1 - (w0 + w2) / 2, w2]).amax(0) + of_solid["fit"]
    ends = torch.stack([of_solid["start"][:, axis], of_solid["end"][:, axis]], 1)
    low, high = ends.amin(1) - reach, ends.amax(1) + reach
    step = grid[:, 1] - grid[:, 0]
    count = min(int(((high - low) / step).amax().ceil()) + 1, grid.shape[1])
    first = ((low - grid[:, 0]) / step).ceil().long().clamp(0, grid.shape[1] - count)
    return first[:, None] + torch.arange(count)


def _evaluate(of_solid: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One solid at a grid of samples: inside, depth, along, across and facing, each [B, h, w]."""
    start, end = of_solid["start"], of_solid["end"]
    length = (end - start)[:, :2].norm(dim=-1, keepdim=True).clamp(min=1e-4)
    ex, ey = ((end - start)[:, :2] / length).split(1, 1)
    dx, dy = x - start[:, :1], y - start[:, 1:2]
    t = (dx * ex / length)[:, None, :] + (dy * ey / length)[:, :, None]
    u = (dx * ey)[:, None, :] - (dy * ex)[:, :, None]
    held = t.clamp(0, 1)
    over = (t - held) * length[..., None]
    w0, w1, w2 = of_solid["width"][..., None, None].unbind(1)
    fit, cut, bulge = (of_solid[name][:, None, None] for name in ("fit", "cut", "bulge"))
    # The parabola through w0 at 0, w1 at 1/2 and w2 at 1, and the cloth on it.
    width = ((2 * w0 - 4 * w1 + 2 * w2) * held + (4 * w1 - 3 * w0 - w2)) * held + w0
    width = width + fit * (held < cut)
    first_cap, last_cap = of_solid["cap"][..., None, None].unbind(1)
    cap = torch.lerp(first_cap, last_cap, held).minimum(width)
    corner = (u.abs() - width + cap).clamp(min=0)
    inside = corner.square() + over.square() < cap.square()
    s = (u / width).clamp(-1, 1)
    nz = (1 - s.square() - (over / cap).square()).clamp(min=0).sqrt()
    z = torch.lerp(start[:, 2, None, None], end[:, 2, None, None], held) + bulge * width * nz
    return inside, z, t, s, nz
