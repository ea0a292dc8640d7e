"""Special tokens of the released models, in the order of their ids.

They are numbered on from the end of the text vocabulary. The Qwen2 list belongs to CosyVoice 2, the
longer one with pronunciation tokens to CosyVoice 3; CosyVoice 1 has those of Whisper large-v3.
"""

from __future__ import annotations

from typing import Final

from mynah.text.rules import words

END_OF_TEXT: Final = "<|endoftext|>"
END_OF_PROMPT: Final = "<|endofprompt|>"

COSYVOICE1_TAGS: Final[tuple[str, ...]] = words(
    "[laughter] [breath] <strong> </strong> <laughter> </laughter>"
)
"""Tags of CosyVoice 1: ordinary text to its tokenizer."""

COSYVOICE2_TAGS: Final[tuple[str, ...]] = words(
    "[breath] <strong> </strong> [noise] [laughter] [cough] [clucking] [accent] [quick_breath] "
    "<laughter> </laughter> [hissing] [sigh] [vocalized-noise] [lipsmack] [mn]"
)

PHONES: Final[tuple[str, ...]] = tuple(
    sorted(
        (
            *words("B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"),
            *(
                f"{vowel}{stress}"
                for vowel in words("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW")
                for stress in ("", "0", "1", "2")
            ),
        )
    )
)
"""Phones of the CMU dictionary, vowels with and without stress."""

PINYIN_PARTS: Final[tuple[str, ...]] = tuple(
    sorted(
        words(
            "b c ch d f g h j k l m n p q r s sh t w x y z zh "
            "a ai an ang ao e ei en eng i ian in ing iu o ong ou u uang ue un uo "
            "ā āi ān āng āo á ái án áng áo ǎ ǎi ǎn ǎng ǎo à ài àn àng ào "
            "ē ēi ēn ēng é éi én éng ér ě ěi ěn ěng ěr è èi èn èng èr "
            "ī īn īng í ín íng ǐ ǐn ǐng ì ìn ìng iā iān iāng iāo iá ián iáng iáo "
            "iǎ iǎn iǎng iǎo ià iàn iàng iào iē ié iě iè iōng ióng iǒng iòng iū iú iǔ iù "
            "ō ōng ōu ó óng óu ǒ ǒng ǒu ò òng òu ū ūn ú ún ǔ ǔn ù ùn "
            "uā uāi uān uāng uá uái uán uáng uǎ uǎi uǎn uǎng uà uài uàn uàng "
            "uē ué uě uè uī uí uǐ uì uō uó uǒ uò ǘ ǚ ǜ vè"
        )
    )
)
"""Pinyin initials and finals with their tone marks, as CosyVoice 3 spells them."""

PRONUNCIATION_TOKENS: Final[tuple[str, ...]] = tuple(
    f"[{part}]" for part in (*PHONES, *PINYIN_PARTS)
)

COSYVOICE2: Final[tuple[str, ...]] = (
    END_OF_TEXT, "<|im_start|>", "<|im_end|>", END_OF_PROMPT, *COSYVOICE2_TAGS,
)  # fmt: skip
COSYVOICE3: Final[tuple[str, ...]] = (*COSYVOICE2, "<|endofsystem|>", *PRONUNCIATION_TOKENS)

_WHISPER_LANGUAGES: Final = words(
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th "
    "ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr "
    "pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt "
    "haw ln ha ba jw su yue"
)
WHISPER: Final[tuple[str, ...]] = (
    END_OF_TEXT,
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in _WHISPER_LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{step * 0.02:.2f}|>" for step in range(1501)),
)
"""Whisper large-v3 (arXiv 2212.04356): with 50,257 ranks the vocabulary has 51,866 ids."""
