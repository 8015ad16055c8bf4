from m3se.trainers.run_folder import reset_truncation
from tests.worlds import tiny


def test_what_a_tokenizer_saves_does_not_depend_on_its_last_call():
    called, fresh = tiny.tokenizer(), tiny.tokenizer()
    called(["red river stone", "red"], padding=True, truncation=True, max_length=4)
    assert called.backend_tokenizer.to_str() != fresh.backend_tokenizer.to_str()
    for tokenizer in (called, fresh):
        reset_truncation(tokenizer)
    assert called.backend_tokenizer.to_str() == fresh.backend_tokenizer.to_str()
