import pytest
import torch

from m3se.trainers.models.text_inputs import TextInputs
from tests.worlds import architectures, tiny


TEXTS = ["red blue green tree river stone cloud fish", "red", "bread salt"]


@pytest.mark.parametrize("side", ["query", "document"])
def test_texts_are_cut_and_padded_as_the_tokenizer_does_it(side):
    tokenizer = tiny.tokenizer()
    expected = tokenizer(TEXTS, padding=True, truncation=True, max_length={"query": 5, "document": 9}[side])
    ids, mask = TextInputs(tokenizer, 5, 9)(TEXTS, side)
    assert ids.tolist() == expected["input_ids"] and mask.tolist() == expected["attention_mask"]


def test_padding_is_on_the_right_whatever_side_the_tokenizer_pads_on():
    right, left = (architectures.word_tokenizer(padding_side=side) for side in ("right", "left"))
    ids, mask = TextInputs(right, 8, 8)(TEXTS, "query")
    assert mask[1].tolist() == [1, 1, 1, 0, 0, 0, 0, 0] and ids[1, 3:].eq(right.pad_token_id).all()
    assert all(map(torch.equal, (ids, mask), TextInputs(left, 8, 8)(TEXTS, "query")))


def test_a_text_without_a_token_has_a_place_but_no_token():
    tokenizer = architectures.word_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    ids, mask = TextInputs(tokenizer, 8, 8)(["", ""], "query")
    assert ids.tolist() == [[tokenizer.pad_token_id]] * 2 and mask.tolist() == [[0], [0]]


def test_a_prompt_comes_before_the_texts_of_its_side_within_their_length_and_only_once():
    tokenizer = tiny.tokenizer()
    inputs = TextInputs.for_model(tokenizer, tiny.dual_encoder(query_prompt="salt: ", document_prompt="iron ").config)
    cut = inputs.token_ids(["red blue green tree river stone cloud fish"], "query")[0]
    assert tokenizer.convert_ids_to_tokens(cut) == ["[CLS]", "salt", "[UNK]", "red", "blue", "green", "tree", "[SEP]"]
    assert inputs.token_ids(["salt: red"], "query") == inputs.token_ids(["red"], "query")
    assert inputs.token_ids(["red", ""], "document") == tokenizer(["iron red", "iron"])["input_ids"]
