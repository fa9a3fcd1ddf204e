"""Span masks and distractors, drawn on the device: transformers draws both on the host, row by row."""

import torch


def hidden_count(frames: int, probability: float, span: int) -> int:
    """Returns the number of masked frames of a row: those that `probability` * frames / span spans cover on average."""
    starts = frames - span
    return round(frames * (1 - (1 - probability * frames / span / starts) ** span))


def span_mask(
    rows: int, frames: int, probability: float, span: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask (rows, frames) True where hidden, and the hidden frames (rows, M) in order, M = hidden_count.

    fairseq's spans (probability * frames / span distinct starts, rounded at random), and as there all rows hide
    equally many: here always M, so that shapes stand still. For that, single frames are shown again, or hidden.
    """
    starts = frames - span
    spans = torch.floor(probability * frames / span + torch.rand(rows, 1, device=device))
    begun = torch.rand(rows, starts, device=device).argsort(1).argsort(1) < spans  # (rows, starts)
    begun = torch.nn.functional.pad(begun.int(), (span, span)).cumsum(1)  # with `span` zeros before the first
    covered = begun[:, span:] > begun[:, :-span]  # (rows, frames)
    order = covered + torch.rand(rows, frames, device=device)  # hidden ones last
    hidden = order.topk(hidden_count(frames, probability, span), 1).indices.sort(1).values  # (rows, M)
    return torch.zeros_like(covered).scatter(1, hidden, True), hidden


def distractors(rows: int, hidden: int, count: int, device: torch.device) -> torch.Tensor:
    """For each of `hidden` frames of a row `count` others: (rows, hidden, count), numbered among the hidden ones."""
    draw = torch.randint(0, hidden - 1, (rows, hidden, count), device=device)
    return draw + (draw >= torch.arange(hidden, device=device)[:, None])


def exact_mask(
    rows: int, frames: int, ratio: tuple[float, float], span: tuple[int, int], device: torch.device
) -> torch.Tensor:
    """Mask (rows, frames) that hides exactly round(U(ratio) * frames) frames of a row, in spans of U{span} frames.

    Spans are laid one after the other until so many are covered; the last one is cut short (jepa_speech/nn/masks.py).
    """
    count = torch.round(frames * torch.empty(rows, 1, device=device).uniform_(*ratio))
    candidates = 4 + 3 * frames // span[0]
    size = torch.randint(span[0], span[1] + 1, (rows, candidates), device=device)
    start = (torch.rand(rows, candidates, device=device) * (frames - size + 1)).long()
    offset = torch.arange(frames, device=device)[:, None] - start[:, None]  # (rows, frames, candidates)
    covered = (offset >= 0) & (offset < size[:, None])
    first = torch.where(covered.any(-1), covered.int().argmax(-1), candidates)  # the span that hides a frame first
    order = first * frames + torch.arange(frames, device=device)
    return order.argsort(1).argsort(1) < count
