"""Trains the small vocabularies of this directory, and has the libraries they come from cut a made-up corpus.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
    python make.py

Byte-level vocabularies are cut by a tokenizer.json of the tokenizers library, the others by SentencePiece itself. The
GGUF files hold a vocabulary and no tensors.
"""

import io
import json
import pathlib
import random
import unicodedata

import gguf
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[3]
OUT = HERE
LINES = 160

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# name of the cut in GGUF: (pattern or none, single digits first, Unicode normal form C, words of the vocabulary stay whole)
BYTE_LEVEL = {
    "gpt-2": (None, False, False, False),
    "smollm": (None, True, False, False),
    "qwen2": (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST, False, True, False),
    "llama-bpe": (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST, False, False, True),
}
CONTROL = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
SENTENCE_PIECE = {
    "llama": {"add_dummy_prefix": True},
    "gemma": {"add_dummy_prefix": False, "user_defined_symbols": ["\n", "\n\n", "\t", "<b>"]},
}


def training():
    files = [*ROOT.glob("shell-integrations/*"), ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "install.sh"]
    return [line for file in files for line in file.read_text().splitlines() if line.strip()]


def corpus(lines):
    """Shell lines whole, cut, joined and stirred; letters of many scripts; spaces, control characters, digits."""
    pick = random.Random(3)
    alphabets = ["äöüßéñç", "漢字仮名ひらがな", "привет", "مرحبا", "🚀🎉👩‍💻", "e\u0301o\u0308", "\u00a0\u2003\u200b\ufeff",
                 "\x00\x01\x07\x1b\x7f\x85", "  \t\n\r", "0123456789²½٣", "'s'T'll'D", "{}[]()<>|&;$`\\\"'-_=+*/", "ﬁＡ①"]
    made = ["a", " ", "  ls  -la ", "\n", "\n\n\n", "it's 2024's", "1234567 12", "\t\tx", "é e\u0301", "café 42%"]
    while len(made) < LINES:
        parts = []
        for _ in range(pick.randint(1, 4)):
            if pick.random() < 0.5:
                line = pick.choice(lines)
                start = pick.randrange(len(line))
                parts.append(line[start:start + pick.randint(1, 16)])
            else:
                alphabet = pick.choice(alphabets)
                parts.append("".join(pick.choice(alphabet) for _ in range(pick.randint(1, 5))))
        made.append(pick.choice(["", " "]).join(parts))
    return made


def writer(name, model, cut):
    file = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    file.add_tokenizer_model(model)
    file.add_tokenizer_pre(cut)
    file.add_add_bos_token(False)
    return file


def close(file):
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.close()


def byte_level(name, lines):
    pattern, digits, composed, whole = BYTE_LEVEL[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps += [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, level])
    tokenizer.decoder = decoders.ByteLevel()
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=CONTROL, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    file = writer(name, "gpt2", name)
    file.add_token_list(tokens)
    file.add_token_types([gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens])
    file.add_token_merges([" ".join(merge) for merge in model["merges"]])
    close(file)
    return lambda line: tokenizer.encode(line, add_special_tokens=False).ids


def sentence_piece(name, lines):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=560, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99,
        split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2, **SENTENCE_PIECE[name])
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds = [(pieces.is_unknown, gguf.TokenType.UNKNOWN), (pieces.is_control, gguf.TokenType.CONTROL),
             (pieces.is_byte, gguf.TokenType.BYTE)]
    user = SENTENCE_PIECE[name].get("user_defined_symbols", [])
    ids = range(pieces.get_piece_size())

    def kind(i):
        if pieces.id_to_piece(i) in user:
            return gguf.TokenType.USER_DEFINED
        return next((kind for test, kind in kinds if test(i)), gguf.TokenType.NORMAL)

    file = writer(name, "llama", "default")
    file.add_token_list([pieces.id_to_piece(i) for i in ids])
    file.add_token_scores([pieces.get_score(i) for i in ids])
    file.add_token_types([kind(i) for i in ids])
    file.add_unk_token_id(pieces.unk_id())
    file.add_add_space_prefix(SENTENCE_PIECE[name]["add_dummy_prefix"])
    close(file)
    return pieces.encode


lines = training()
texts = corpus(lines)
assert any(unicodedata.normalize("NFC", text) != text for text in texts)
cut = {name: byte_level(name, lines) for name in BYTE_LEVEL} | {name: sentence_piece(name, lines) for name in SENTENCE_PIECE}
ids = {name: [encode(text) for text in texts] for name, encode in cut.items()}
text = json.dumps({"texts": texts, "ids": ids}, separators=(",", ":"))
(OUT / "corpus.json").write_text(text.replace("],[", "],\n[") + "\n")
for name, rows in ids.items():
    print(name, sum(map(len, rows)), "tokens")
