"""Writes docs/cache.svg: how shards get from a bucket through the cache into batches.

python docs/cache_picture.py
"""

from pathlib import Path

OUT = Path(__file__).with_name("cache.svg")
# Shards of the batches of a plan, from the one that is read now on, in the picture.
PLAN = ("A C", "B", "A D", "C", "E", "B F", "D", "G")
AHEAD = 6  # batches within data.fetch_ahead seconds
CACHED, PART = ("A", "B", "C", "D", "E"), "F"
BLUE, ORANGE, GREEN = ("#eef3f9", "#7f94b0"), ("#fdf3e4", "#c79a52"), ("#eaf6ec", "#7daa84")
LINE, TEXT = "#44546a", "#1d2733"


def box(x: int, y: int, width: int, height: int, colours: tuple[str, str], dashed: bool = False) -> str:
    fill, stroke = colours
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}"{dashes}/>'


def text(x: int, y: int, words: str, size: int = 12, weight: str = "normal", colour: str = TEXT) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="middle"'
    return f'<text x="{x}" y="{y}" {style}>{words}</text>'


def arrow(path: str) -> str:
    return f'<path d="{path}" stroke="{LINE}" stroke-width="1.6" fill="none" marker-end="url(#tip)"/>'


def way() -> list[str]:
    """From the bucket to the train step."""
    found = [box(20, 30, 150, 130, BLUE), text(95, 54, "bucket", 14, "bold"), text(95, 72, "store.json, index, labels")]
    for number, name in enumerate("ABCDEFG"):
        x, y = 30 + 33 * (number % 4), 84 + 36 * (number // 4)
        found += [box(x, y, 28, 28, ("#ffffff", BLUE[1])), text(x + 14, y + 19, name)]
    found += [box(250, 30, 180, 130, ORANGE), text(340, 54, "being fetched", 14, "bold")]
    found += [box(326, 64, 28, 28, ("#ffffff", ORANGE[1]), dashed=True), text(340, 83, PART)]
    found += [text(340, 112, "locked: by one process only"), text(340, 130, "size and CRC-32 compared")]
    found += [text(340, 148, "on disk, then renamed")]
    found += [box(510, 30, 200, 130, GREEN), text(610, 54, "cache on a local disk", 14, "bold")]
    for number, name in enumerate(CACHED):
        found += [box(524 + 35 * number, 64, 28, 28, ("#ffffff", GREEN[1])), text(538 + 35 * number, 83, name)]
    found += [text(610, 112, "whole shards, for all processes"), text(610, 130, "at most JEPA_SPEECH_CACHE_GB,", 11)]
    found += [text(610, 148, "and 5% of the disk stays free")]
    found += [box(790, 30, 130, 130, BLUE), text(855, 54, "batches", 14, "bold"), text(855, 88, "crops are decoded:")]
    found += [text(855, 106, "the same as from"), text(855, 124, "a local store")]
    found += [arrow("M170,95 H248"), text(209, 84, "4 at a time"), arrow("M430,95 H508"), text(469, 84, "rename")]
    return [*found, arrow("M710,95 H788"), text(749, 84, "read")]


def plan() -> list[str]:
    """The batches to come, and what is done for them."""
    found = [text(95, 233, "batch plan", 14, "bold"), text(95, 251, "known in advance")]
    for number, shards in enumerate(PLAN):
        x = 180 + 92 * number
        colours = ORANGE if PART in shards else GREEN if set(shards.split()) <= set(CACHED) else ("#ffffff", BLUE[1])
        found += [box(x, 212, 82, 48, colours), text(x + 41, 232, f"batch {number}"), text(x + 41, 250, shards)]
    end = 180 + 92 * AHEAD - 10
    found += [f'<path d="M180,272 V280 H{end} V272" stroke="{LINE}" fill="none"/>']
    found += [text((180 + end) // 2, 298, "the next data.fetch_ahead seconds: shards are fetched, the soonest first")]
    return [*found, text(610, 186, "if there is no room, the shard whose next use is the latest is evicted: E")]


def svg() -> str:
    """Returns the whole picture."""
    head = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 315" font-family="Helvetica, Arial, sans-serif">',
        "<title>From a bucket through the cache into batches</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>',
        '<rect width="940" height="315" rx="8" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *way(), *plan(), "</svg>"]) + "\n"


if __name__ == "__main__":
    OUT.write_text(svg(), encoding="utf-8")
