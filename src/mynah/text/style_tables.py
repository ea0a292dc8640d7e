"""The instructions that the released models were trained on, by English name.

The sentences are an interface: a model follows them letter by letter and other wordings less or
not at all. Sources: CosyVoice (arXiv 2407.05407, section on instructions), the demo page of
CosyVoice 2 (arXiv 2412.10117), the published instruction list of Fun-CosyVoice 3.
An empty sentence means that the model does so without an instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

Sentences = Mapping[str, str]


@dataclass(frozen=True)
class Catalogue:
    """What one model generation can be told, name -> sentence."""

    emotions: Sentences
    dialects: Sentences
    styles: Sentences
    sentence: str | None = None
    """Frame for an emotion and styles together; None = one instruction at a time."""


def _same(template: str, **names: str) -> Sentences:
    return MappingProxyType({name: template.format(word) for name, word in names.items()})


COSYVOICE1: Final = Catalogue(
    emotions=MappingProxyType(
        {
            name: f"{name} emotion"
            for name in ("neutral", "happy", "sad", "angry", "fearful", "surprised", "disgusted")
        }
    ),
    dialects=MappingProxyType({"mandarin": ""}),
    styles=MappingProxyType(
        {
            "fast": "fast speaking rate", "slow": "slow speaking rate",
            "high": "high pitch", "low": "low pitch",
        }
    ),
    sentence="A speaker with {}.",
)  # fmt: skip

COSYVOICE2: Final = Catalogue(
    emotions=MappingProxyType(
        {
            "neutral": "",
            **_same("用{}的语气说", happy="开心", sad="伤心", surprised="惊讶", angry="生气"),
            **_same("用{}的情感表达", fearful="恐惧", disgusted="恶心"),
            **_same("{}", calm="冷静", serious="严肃"),
        }
    ),
    dialects=MappingProxyType(
        {
            "mandarin": "",
            **_same(
                "用{}说这句话", cantonese="粤语", sichuanese="四川话", shanghainese="上海话",
                zhengzhou="郑州话", changsha="长沙话", tianjin="天津话",
            ),
        }
    ),
    styles=_same(
        "{}", fast="快速", very_fast="非常快速", slow="慢速", very_slow="非常慢速",
        mysterious="神秘", fierce="凶猛", curious="好奇", elegant="优雅", lonely="孤独",
        robot="模仿机器人风格", peppa="我想听听你模仿小猪佩奇的语气",
        elf="一个活泼、爱冒险的小精灵", general="一位权威、威严的古代将军", poet="一个忧郁的诗人",
    ),
)  # fmt: skip

COSYVOICE3: Final = Catalogue(
    emotions=MappingProxyType(
        {
            "neutral": "",
            **_same("请非常{}地说一句话。", happy="开心", sad="伤心", angry="生气"),
        }
    ),
    dialects=MappingProxyType(
        {
            "mandarin": "",
            **_same(
                "请用{}表达。", cantonese="广东话", northeastern="东北话", gansu="甘肃话",
                guizhou="贵州话", henan="河南话", hubei="湖北话", hunan="湖南话", jiangxi="江西话",
                hokkien="闽南话", ningxia="宁夏话", shanxi="山西话", shaanxi="陕西话",
                shandong="山东话", shanghainese="上海话", sichuanese="四川话", tianjin="天津话",
                yunnan="云南话",
            ),
        }
    ),
    styles=MappingProxyType(
        {
            "loud": "Please say a sentence as loudly as possible.",
            "soft": "Please say a sentence in a very soft voice.",
            "slow": "请用尽可能慢地语速说一句话。",
            "fast": "请用尽可能快地语速说一句话。",
            "peppa": "我想体验一下小猪佩奇风格，可以吗？",
            "robot": "你可以尝试用机器人的方式解答吗？",
        }
    ),
)  # fmt: skip

CATALOGUES: Final[Mapping[str, Catalogue]] = MappingProxyType(
    {"cosyvoice1": COSYVOICE1, "cosyvoice2": COSYVOICE2, "cosyvoice3": COSYVOICE3}
)

ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "neutral": ("normal", "none", "中性", "平静", "正常"),
        "happy": ("happiness", "joy", "joyful", "cheerful", "excited", "开心", "高兴", "快乐"),
        "sad": ("sadness", "sorrow", "sorrowful", "伤心", "悲伤", "难过"),
        "angry": ("anger", "furious", "生气", "愤怒"),
        "fearful": ("fear", "afraid", "scared", "恐惧", "害怕"),
        "surprised": ("surprise", "astonished", "惊讶", "惊喜"),
        "disgusted": ("disgust", "恶心", "厌恶"),
        "calm": ("冷静",),
        "serious": ("严肃",),
        "mandarin": ("zh", "cmn", "putonghua", "普通话", "国语"),
        "cantonese": ("yue", "guangdong", "粤语", "广东话", "白话"),
        "sichuanese": ("sichuan", "四川话", "四川"),
        "shanghainese": ("shanghai", "wuu", "上海话", "上海"),
        "hokkien": ("minnan", "nan", "taiwanese", "闽南话", "闽南语"),
        "northeastern": ("dongbei", "东北话", "东北"),
        "zhengzhou": ("henan", "郑州话", "河南话"),
        "henan": ("zhengzhou", "河南话", "郑州话"),
        "changsha": ("hunan", "长沙话", "湖南话"),
        "hunan": ("changsha", "湖南话", "长沙话"),
        "tianjin": ("天津话",),
        "gansu": ("甘肃话",),
        "guizhou": ("贵州话",),
        "hubei": ("wuhan", "湖北话", "武汉话"),
        "jiangxi": ("江西话",),
        "ningxia": ("宁夏话",),
        "shanxi": ("山西话",),
        "shaanxi": ("陕西话",),
        "shandong": ("山东话",),
        "yunnan": ("云南话",),
        "fast": ("quick", "quickly", "快速", "快"),
        "very_fast": ("very fast", "非常快速"),
        "slow": ("slowly", "慢速", "慢"),
        "very_slow": ("very slow", "非常慢速"),
        "loud": ("loudly", "大声"),
        "soft": ("softly", "quiet", "whisper", "轻声", "小声"),
        "robot": ("robotic", "机器人"),
        "peppa": ("peppa pig", "小猪佩奇"),
        "mysterious": ("神秘",),
        "fierce": ("凶猛",),
        "curious": ("好奇",),
        "elegant": ("优雅",),
        "lonely": ("孤独",),
        "high": ("high pitch",),
        "low": ("low pitch",),
    }
)
"""Other words for a name; a catalogue's own names come first."""
