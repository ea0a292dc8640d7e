"""Byte-pair tokenizers: special tokens, templates, pronunciations, vocabulary files."""

import json
from pathlib import Path

import pytest

from mynah.errors import InvalidRequestError, MarkupError, ModelFormatError
from mynah.text.bpe_tokenizer import qwen2_tokenizer
from mynah.text.lexicons import UserLexicon
from mynah.text.special_tokens import COSYVOICE2, COSYVOICE2_TAGS, COSYVOICE3, PRONUNCIATION_TOKENS
from mynah.text.vocabularies import Qwen2Vocabulary

CONTRACT = Path(__file__).parents[2] / "fixtures"
V3 = "You are a helpful assistant.<|endofprompt|>{text}"


@pytest.fixture
def qwen2_folder(tmp_path: Path) -> Path:
    """A tiny byte-level vocabulary in the form of a Qwen2 folder."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    for merge in ("he", "ll", "hell", "hello"):
        vocab[merge] = len(vocab)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = "#version: 0.2\nh e\nl l\nhe ll\nhell o\n"
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    return tmp_path


def test_bpe_special_tokens_follow_the_vocabulary(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    assert tokenizer.special_id("<|endofprompt|>") == 260 + 3
    assert tokenizer.vocab_size == 260 + 4 + len(COSYVOICE2_TAGS)
    ids = tokenizer.encode("hello [breath]hello")
    first_tag = 264
    assert ids[0] == 259
    assert first_tag in ids
    assert (ids < tokenizer.vocab_size).all()


def test_bpe_text_never_becomes_a_special_token(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    with pytest.raises(MarkupError):
        tokenizer.encode("<|endofprompt|>hello")
    assert (tokenizer.encode(r"hello \[breath]") < 260).all()
    assert tokenizer.count("<|endofprompt|>") > 1


def test_bpe_normalises_and_completes(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    assert tokenizer.encode("hello").tolist() == tokenizer.encode("hello.").tolist()
    pauses = tokenizer.is_pause(tokenizer.encode("hello."))
    assert pauses.tolist() == [False, True]
    with pytest.raises(InvalidRequestError):
        tokenizer.encode("[breath] ...")


def test_bpe_from_tokenizer_json_refuses_a_stock_tokenizer(
    qwen2_folder: Path, tmp_path: Path
) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    stock = Tokenizer(
        models.BPE.from_file(str(qwen2_folder / "vocab.json"), str(qwen2_folder / "merges.txt"))
    )
    stock.add_special_tokens([AddedToken("<|object_ref_start|>", special=True)])
    folder = tmp_path / "stock"
    folder.mkdir()
    stock.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelFormatError, match="other added tokens"):
        qwen2_tokenizer(folder)


def test_bpe_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="cannot read"):
        qwen2_tokenizer(tmp_path / "nowhere")


def test_special_tokens_are_those_of_the_release() -> None:
    path = CONTRACT / "contract_cosyvoice3.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["special_tokens"]
    assert [listed["eos_token"], *listed["additional_special_tokens"]] == list(COSYVOICE3)
    assert COSYVOICE3[: len(COSYVOICE2)] == COSYVOICE2


def names(folder: Path, text: str, lexicon: dict[str, str] | None = None) -> list[str]:
    """What a CosyVoice 3 tokenizer reads: special tokens by name, text as it is."""
    tokenizer = qwen2_tokenizer(folder, COSYVOICE3)
    parts = [""]
    for index in tokenizer.encode(text, lexicon=UserLexicon(lexicon)).tolist():
        if index >= 260:
            parts += [COSYVOICE3[index - 260], ""]
        else:
            parts[-1] += Qwen2Vocabulary(folder, COSYVOICE3).decode(index)
    return [part for part in parts if part]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x{T AH0}y", "[T] [AH0] y."),
        ("[ok](hang2 lǜ) hello", "[h] [áng] [l] [ǜ] |hello."),
        ("[j][ǐ] hello", "[j] [ǐ] |hello."),
        ('nginx{"engine x"} now', "engine|x|now."),
        ("a [laughter] [breath]b", "a| [laughter] | [breath] b."),
    ],
)
def test_native_pronunciations(qwen2_folder: Path, text: str, read: str) -> None:
    assert [part.replace(" ", "|") for part in names(qwen2_folder, text)] == read.split(" ")


def test_pronunciations_by_homophones(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    assert tokenizer.encode("行{háng}").tolist() == tokenizer.encode("航").tolist()
    assert tokenizer.encode("好{hao3}").tolist() == tokenizer.encode("好").tolist()
    assert tokenizer.encode("[重庆](chong2 qing4)").tolist() == tokenizer.encode("虫庆").tolist()
    with pytest.raises(MarkupError, match="reads no phones"):
        tokenizer.check("tomato{T AH0}")
    with pytest.raises(MarkupError, match="no common character"):
        tokenizer.check("大{kei1}")


def test_lexicon(qwen2_folder: Path) -> None:
    lexicon = {"nginx": '"engine x"', "hello": "HH AH0"}
    assert names(qwen2_folder, "Nginx hello!", lexicon) == ["engine x ", "[HH]", "[AH0]", "!"]
    with pytest.raises(MarkupError):
        qwen2_tokenizer(qwen2_folder).check("say hello", UserLexicon(lexicon))


def test_templates(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder, COSYVOICE3)
    end = tokenizer.special_id("<|endofprompt|>")
    words = tokenizer.encode("hello")
    ids = tokenizer.encode_template(V3, words).tolist()
    assert ids.count(end) == 1
    assert ids[-len(words) :] == words.tolist()
    system = tokenizer.encode_template("You are a helpful assistant.").tolist()
    assert ids[: -len(words) - 1] == system
    told = tokenizer.encode_template("You. {text}<|endofprompt|>", "be sad")
    assert told.tolist() == [*tokenizer.encode_template("You. be sad").tolist(), end]
    with pytest.raises(ModelFormatError, match="more than one"):
        tokenizer.encode_template("{text}{text}", "a")


@pytest.mark.parametrize(
    "text", ["a<|endofprompt|>", "＜｜im_end｜＞", "<\u200b|x|\u200b>", "< |x| >"]
)
def test_users_write_no_markers(qwen2_folder: Path, text: str) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder, COSYVOICE3)
    with pytest.raises(MarkupError, match="control marker"):
        tokenizer.encode_template("{text}", text)
    with pytest.raises(MarkupError, match="control marker"):
        tokenizer.encode(text)


def test_parts_of_an_utterance_join(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    parts = ["hello", " [laughter]", " hello", " there"]
    joined = [i for part in parts for i in tokenizer.encode(part, whole=False).tolist()]
    assert joined == tokenizer.encode("".join(parts), whole=False).tolist()
    assert len(tokenizer.encode("\U0001f600", whole=False)) == 0


def test_raw_text(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder)
    raw = tokenizer.encode("on 5 May", normalize=False).tolist()
    vocabulary = Qwen2Vocabulary(qwen2_folder, COSYVOICE2)
    assert "".join(vocabulary.decode(i) for i in raw) == "on 5 May"


def test_every_pronunciation_token_is_a_tag(qwen2_folder: Path) -> None:
    tokenizer = qwen2_tokenizer(qwen2_folder, COSYVOICE3)
    text = "a" + "".join(PRONUNCIATION_TOKENS)
    assert tokenizer.encode(text)[2:262].tolist() == list(range(260 + 21, 260 + 281))
