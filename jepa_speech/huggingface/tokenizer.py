"""Read and write the tokenizer files of a CTC model of transformers (Wav2Vec2CTCTokenizer).

vocab.json, tokenizer_config.json, special_tokens_map.json and added_tokens.json are read with the precedence of
transformers 5. No code in them is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.files import as_json, read_object
from jepa_speech.text.tokens import SPACE, Tokens

CONFIG, MAP, ADDED, VOCABULARY = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"
CLASS = "Wav2Vec2CTCTokenizer"
CLASSES = (CLASS, "Wav2Vec2Tokenizer")  # the second is its older name
# In the order in which transformers numbers tokens that the vocabulary lacks. None: no such token.
DEFAULTS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": None,
    "pad_token": "<pad>",
    "cls_token": None,
    "mask_token": None,
    "word_delimiter_token": "|",
}
MORE = ("extra_special_tokens", "additional_special_tokens")  # lists of tokens; the second is the older name
LARGEST = 2**31  # number of a token


def read_tokens(folder: str | Path, classes: int, language: str = "") -> Tokens:
    """Returns the tokens of a CTC layer from the folder's tokenizer files.

    classes: of the layer. language: of the vocabulary, if there is one per language; "": target_lang of
    tokenizer_config.json.

    Raises UserError, naming the file, for another tokenizer, and for a vocabulary that is missing, malformed, larger
    than the layer, or without a blank.
    """
    folder = Path(folder)
    settings, added = read_settings(folder)
    where = str(folder / CONFIG)
    if (kind := checked.field(settings, "tokenizer_class", str, where, default=CLASS)) not in CLASSES:
        raise UserError(f"{where}: tokenizer_class = {checked.shown(kind)}: only {CLASS} can be read")
    vocabulary = read_vocabulary(folder, language or settings.get("target_lang"))
    named = {key: content(settings[key], f"{where}: {key}") for key in DEFAULTS}
    tokens = [""] * classes
    for token, number in added.items():
        if number < classes:  # the layer has no classes for higher numbers
            tokens[number] = token
    for token, number in vocabulary.items():
        if number >= classes:
            raise UserError(
                f"{folder / VOCABULARY}: the number of {checked.shown(token)} is {number}, and the CTC layer (lm_head) "
                f"has {classes} classes: the file belongs to another model; download both again"
            )
        tokens[number] = token
    known = vocabulary.keys() | added.keys()
    extra = [content(token, f"{where}: {key}") for key in MORE for token in as_list(settings, key, where)]
    missing = dict.fromkeys(token for token in (*named.values(), *extra) if token and token not in known)
    for number, token in enumerate(missing, len(known)):
        if number < classes and not tokens[number]:
            tokens[number] = token
    blank = named["pad_token"]
    if blank not in tokens or not blank:
        raise UserError(
            f"{folder / VOCABULARY}: it lacks CTC's blank, pad_token = {checked.shown(blank)}: add it to the file, or "
            f"name the blank with pad_token in {where}"
        )
    return Tokens(
        tokens=tuple(tokens),
        blank_token=blank,
        unknown_token=named["unk_token"],
        delimiter_token=named["word_delimiter_token"],
        space=checked.field(settings, "replace_word_delimiter_char", str, where, default=SPACE),
        lower=checked.field(settings, "do_lower_case", bool, where, default=False),
        clean_up=checked.field(settings, "clean_up_tokenization_spaces", bool, where, default=False),
    )


def read_settings(folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the settings with the special tokens, and the numbers of tokens that are not in vocab.json."""
    settings = optional(folder / CONFIG)
    if "added_tokens_decoder" in settings:  # then transformers ignores the two older files
        where = f"{folder / CONFIG}: added_tokens_decoder"
        rows = checked.field(settings, "added_tokens_decoder", dict, str(folder / CONFIG))
        return DEFAULTS | settings, {content(row, where): as_number(text, where) for text, row in rows.items()}
    where = str(folder / ADDED)
    added = {
        token: checked.value(number, f"{where}: {checked.shown(token)}", int, least=0, most=LARGEST)
        for token, number in optional(folder / ADDED).items()
    }
    return DEFAULTS | settings | optional(folder / MAP), added


def read_vocabulary(folder: Path, language: Any) -> dict[str, int]:
    """Returns token -> number of vocab.json; of `language`, if the file has one vocabulary per language."""
    path = folder / VOCABULARY
    if not path.is_file():
        raise UserError(f"{path}: no such file, so the classes of the CTC layer have no names: copy it from the model")
    found, where = read_object(path), str(path)
    if found and all(isinstance(part, dict) for part in found.values()):
        languages = ", ".join(map(checked.shown, list(found)[:5])) + (", ..." if len(found) > 5 else "")
        if not isinstance(language, str) or language not in found:
            raise UserError(
                f"{where}: it has one vocabulary for each language ({languages}), and target_lang = "
                f"{checked.shown(language)} in {folder / CONFIG}: set one of them there"
            )
        found, where = found[language], f"{where}: {language}"
    tokens: dict[int, str] = {}
    for token, number in found.items():
        if not token:
            raise UserError(f"{where}: an empty token: remove it, or give it a name")
        checked.value(number, f"{where}: the number of {checked.shown(token)}", int, least=0, most=LARGEST)
        if number in tokens:
            both = f"{checked.shown(tokens[number])} and {checked.shown(token)}"
            raise UserError(f"{where}: {both} both have the number {number}: correct one")
        tokens[number] = token
    if not found:
        raise UserError(f"{where}: it is empty; copy it from the model again")
    return found


def optional(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file without null values, except those of tokens; {} without a file."""
    found = read_object(path) if path.is_file() else {}
    return {key: value for key, value in found.items() if value is not None or key in DEFAULTS}


def as_list(settings: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = settings.get(key)
    if isinstance(found, dict):  # transformers 5 also allows named ones
        return list(found.values())
    return checked.value(found, f"{where}: {key}", list) if found is not None else []


def content(token: Any, where: str) -> str:
    """Returns a token that is given as a string or as an object with its content; "" for None."""
    if isinstance(token, dict):
        return checked.field(token, "content", str, where)
    return "" if token is None else checked.value(token, where, str)


def as_number(text: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise UserError(f"{where}: {checked.shown(text)} is not the number of a token")
    return int(text)


def tokenizer_files(tokens: Tokens) -> dict[str, str]:
    """Returns name -> text of the files with which transformers decodes as `tokens` does."""
    vocabulary = {token: number for number, token in enumerate(tokens.tokens) if token}
    special = {
        "pad_token": tokens.blank_token,
        "unk_token": tokens.unknown_token or None,
        # transformers 5.24 ignores a word_delimiter_token in tokenizer_config.json, but not in this file.
        "word_delimiter_token": tokens.delimiter_token or None,
        # Without these, the default ones would get the numbers of classes that have no token.
        "bos_token": None,
        "eos_token": None,
    }
    settings = {
        "tokenizer_class": CLASS,
        **special,
        "replace_word_delimiter_char": tokens.space,
        "do_lower_case": tokens.lower,
        "clean_up_tokenization_spaces": tokens.clean_up,
    }
    given = {key: token for key, token in special.items() if token}
    return {VOCABULARY: as_json(vocabulary), CONFIG: as_json(settings), MAP: as_json(given)}
