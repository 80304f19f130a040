import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from raydistill.data.prompts import template_texts
from raydistill.diffusion.tiny import PUBLIC
from raydistill.diffusion.tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer")


def test_every_word_of_the_template_is_one_token(tokenizer):
    for text in template_texts():
        words = re.findall(r"[a-z]+|\d|[^\sa-z\d]+", text)
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
        assert tokens == ["<|startoftext|>", *(word + "</w>" for word in words), "<|endoftext|>"]
        assert len(tokens) <= tokenizer.model_max_length


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"]), max_size=10))
@settings(max_examples=50)
def test_any_text_is_encoded_without_the_unknown_token(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.eos_token_id not in ids
    assert all(0 <= number < len(tokenizer) for number in ids)


@given(words=st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=5))
@settings(max_examples=50)
def test_words_survive_the_round_trip(tokenizer, words):
    ids = tokenizer(" ".join(words)).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == words


def test_shipped_files_are_what_the_script_writes(tmp_path):
    write_tokenizer(template_texts(), tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_text() == (PUBLIC / "tokenizer" / name).read_text()
    written = CLIPTokenizer.from_pretrained(tmp_path)
    assert written.model_max_length == CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer").model_max_length
