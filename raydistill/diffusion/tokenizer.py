"""Make the public tokenizer: CLIP's scheme with a small closed vocabulary, learned from the prompt template alone."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_LENGTH = 64
"""Tokens of a prompt with its two ends: twice what the template's words need, for findings whose names it doesn't know
and spells in parts. CLIP's own 77 costs time in attention."""

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP takes for a word: letters together, digits one by one. Source: openai/CLIP, simple_tokenizer.py."""


def write_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """Learn merges until every word is one token and write the folder of a `CLIPTokenizer`.

    All 256 bytes are tokens too, so that any text can be encoded.

    Args:
        texts: what holds every word, such as `template_texts()`.
        folder: receives vocab.json, merges.txt and the tokenizer's configuration.
    """
    merges = _learn(texts)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + WORD_END for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes tokenizer.json alone; older ones, and diffusers' users, expect these two.
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def _learn(texts: Iterable[str]) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        # Numbered beforehand: pairs equally frequent are merged in the order of their numbers.
        special_tokens=[*alphabet, *(letter + WORD_END for letter in alphabet)],
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]
