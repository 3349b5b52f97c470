#!/usr/bin/env python3
"""Records what the tokenizers library makes of corpus.txt: `record.py`, in this folder, with tokenizers installed."""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 600
TEXTS = [
    "The gradient of a sum is the sum of the gradients.",
    "don't I'll we've they're he'd it's I'm  can't",
    "  two leading spaces, a tab\tand\n\nnew lines \n",
    "naïve café, Größe, Δx = 3.14, 数学は楽しい, привет мир, مرحبا",
    "emoji 🙂🚀 and combining e\u0301, nbsp\u00a0here, ½ and Ⅷ",
    "x" * 300,
    "aaaaaaaaaaaaaaaaabaaaaaab",
    "for (int i = 0; i < n; ++i) { y[i] += a * x[i]; }",
    "",
]

with open("corpus.txt", encoding="utf-8", newline="") as file:
    corpus = file.read()
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=VOCAB, min_frequency=2, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator([corpus], trainer)
tokenizer.model.save(".")
tokenizer.save("tokenizer.json", pretty=False)
pieces = [{"text": t, "pieces": [t[a:b] for _, (a, b) in tokenizer.pre_tokenizer.pre_tokenize_str(t)]} for t in TEXTS]
encoded = [{"text": t, "ids": tokenizer.encode(t).ids} for t in [*TEXTS, corpus[:2000]]]
with open("recorded.json", "w", encoding="utf-8") as file:
    json.dump({"vocab_size": tokenizer.get_vocab_size(), "pieces": pieces, "encoded": encoded}, file, ensure_ascii=True)
