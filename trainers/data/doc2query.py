"""Queries that a sequence-to-sequence model writes for documents (doc2query; Nogueira et al., 2019)."""

import json
from hashlib import blake2b
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from m3se.modeling.batching import block_tokens, length_blocks
from m3se.trainers.data.synthetic_queries import Made
from m3se.trainers.devices import default_device
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.storage.atomic import write_text
from m3se.trainers.storage.cache import cache_key


DOCUMENT_TOKENS, QUERY_TOKENS = 384, 32
TOP_K = 10  # as docTTTTTquery samples


class QueryWriter:
    """A maker of queries (see `make_queries`) that samples one for every document; documents stay whole.

    Queries are kept in the cache as they are written, so that it goes on there when it was stopped. A draw depends on
    the seed and on the documents that are written for together.

    Args:
        name: folder or Hub id of the model, such as doc2query/msmarco-t5-base-v1.
        seed: of the samples.
        cache_dir: where queries are kept.

    Raises:
        InputError: there is no such model, or it is of another kind.
    """

    def __init__(self, name: str, seed: int, cache_dir: str | Path):
        self.device = default_device()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model = AutoModelForSeq2SeqLM.from_pretrained(name).to(self.device).eval()
        except (OSError, ValueError, KeyError) as error:
            expected = "title, sentence, or a model that writes text from text"
            raise InputError(f"--synthetic_queries: expected {expected}: {first_line(error)}") from None
        self._seed = seed
        self._key = [weights_digest(self.model), seed, DOCUMENT_TOKENS, QUERY_TOKENS, TOP_K]
        self._cache = Path(cache_dir) / "synthetic_queries"

    def __call__(self, ids: list[str], texts: list[str]) -> list[Made]:
        """Write a query for every text, or read those that were written before."""
        key = cache_key(self._key, texts)
        file = self._cache / f"{key}.json"
        if file.is_file():
            queries = json.loads(file.read_text(encoding="utf-8"))
        else:
            queries = self.write(texts, int(key, 16))
            self._cache.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(queries, ensure_ascii=False))
        return [(query, None) for query in queries]

    @torch.inference_mode()
    def write(self, texts: list[str], seed: int) -> list[str]:
        """Sample a query for each of the texts, the longest with the longest."""
        tokens = self.tokenizer(texts, truncation=True, max_length=DOCUMENT_TOKENS)["input_ids"]
        queries = [""] * len(texts)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), tqdm(total=len(texts), desc="writing", unit="query", leave=False) as bar:
            torch.manual_seed(seed % 2**63)
            for rows in length_blocks(list(map(len, tokens)), block_tokens(self.device)):
                batch = self.tokenizer.pad({"input_ids": [tokens[row] for row in rows]}, return_tensors="pt")
                options = {"do_sample": True, "top_k": TOP_K, "max_new_tokens": QUERY_TOKENS, "num_beams": 1}
                written = self.model.generate(**batch.to(self.device), **options)
                decoded = self.tokenizer.batch_decode(written, skip_special_tokens=True)
                for row, query in zip(rows, decoded, strict=True):
                    queries[row] = " ".join(query.split())
                bar.update(len(rows))
        return queries


def weights_digest(model: torch.nn.Module) -> str:
    """Hash the names and values of all weights."""
    digest = blake2b(digest_size=8)
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
