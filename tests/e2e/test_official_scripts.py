"""Scripts with the calls of the official examples, one for each generation, in real processes.

The models are random-weight folders in the official format; loading one converts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mynah.audio.io import read_audio
from mynah.types import Audio
from recipes.random_models.folder import SFT_SPEAKERS, ZERO_SHOT_SPEAKER, write_folder
from tests.e2e.conftest import Command
from tests.sounds import make_speechlike

pytestmark = pytest.mark.slow

START = """
import json, sys, warnings
import soundfile
from mynah.compat import AutoModel, MynahCompatWarning, load_wav
warnings.simplefilter("ignore", MynahCompatWarning)  # random weights rarely end by themselves

def save(path, speech, rate):  # as torchaudio.save
    assert speech.shape[0] == 1 and speech.shape[1] > 0, speech.shape
    soundfile.write(path, speech.numpy()[0], rate)

cosyvoice = AutoModel(model_dir="CosyVoice-Instruct")
"""

GENERATION_1 = """
assert set(SPEAKERS) <= set(cosyvoice.list_available_spks())
for i, j in enumerate(cosyvoice.inference_sft('你好，请问有什么可以帮您的吗？', '中文女', stream=False)):
    save('sft_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_zero_shot('收到好友从远方寄来的生日礼物。', '希望你以后能够做的比我还好呦。', 'prompt.wav')):
    save('zero_shot_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_cross_lingual('<|en|>And then later on, fully acquiring that company.', 'prompt.wav', stream=True)):
    save('cross_lingual_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_vc('prompt.wav', 'other.wav')):
    save('vc_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_instruct('在面对挑战时，他展现了非凡的<strong>勇气</strong>。', '英文男',
                                                   'Theo is a fiery, passionate rebel leader.<|endofprompt|>')):
    save('instruct_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
"""  # noqa: E501 - laid out as the official examples are

GENERATION_2 = """
for i, j in enumerate(cosyvoice.inference_zero_shot('收到好友从远方寄来的生日礼物，笑容如花儿般绽放。', '希望你以后能够做的比我还好呦。', 'prompt.wav')):
    save('zero_shot_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
assert cosyvoice.add_zero_shot_spk('希望你以后能够做的比我还好呦。', 'prompt.wav', 'new_spk') is True
for i, j in enumerate(cosyvoice.inference_zero_shot('收到好友从远方寄来的生日礼物。', '', '', zero_shot_spk_id='new_spk', seed=3)):
    save('saved_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
cosyvoice.save_spkinfo()
for i, j in enumerate(cosyvoice.inference_cross_lingual('在他讲述的过程中，他突然[laughter]停下来[laughter]。', 'prompt.wav')):
    save('fine_grained_control_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_instruct2('收到好友从远方寄来的生日礼物。', '用四川话说这句话<|endofprompt|>', 'prompt.wav')):
    save('instruct_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
def text_generator():
    yield '收到好友从远方寄来的生日礼物，'
    yield '那份意外的惊喜与深深的祝福'
    yield '让我心中充满了甜蜜的快乐，'
    yield '笑容如花儿般绽放。'
for i, j in enumerate(cosyvoice.inference_zero_shot(text_generator(), '希望你以后能够做的比我还好呦。', 'prompt.wav', stream=False)):
    save('bistream_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
prompt_speech_16k = load_wav('prompt.wav', 16000)  # as the older examples do
for i, j in enumerate(cosyvoice.inference_instruct2('收到好友从远方寄来的生日礼物。', '用四川话说这句话', prompt_speech_16k=prompt_speech_16k, stream=True, speed=1.2)):
    save('older_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
"""  # noqa: E501

GENERATION_3 = """
PROMPT = 'You are a helpful assistant.<|endofprompt|>希望你以后能够做的比我还好呦。'
for i, j in enumerate(cosyvoice.inference_zero_shot('八百标兵奔北坡，北坡炮兵并排跑。', PROMPT, 'prompt.wav', stream=False)):
    save('zero_shot_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_cross_lingual('You are a helpful assistant.<|endofprompt|>[breath]因为他们那一辈人[breath]在乡里面住的要习惯一点。', 'prompt.wav', stream=False)):
    save('fine_grained_control_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_instruct2('好少咯，中秋嗰啲可能会咯。', 'You are a helpful assistant. 请用广东话表达。<|endofprompt|>', 'prompt.wav', stream=True)):
    save('instruct_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_zero_shot('高管也通过电话对报道[j][ǐ]予好评。', PROMPT, 'prompt.wav', stream=False)):
    save('hotfix_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
for i, j in enumerate(cosyvoice.inference_cross_lingual('You are a helpful assistant.<|endofprompt|>レキシ テキ セカイ ニ オイ テ ワ。', 'prompt.wav')):
    save('japanese_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
def text_generator():
    yield 'You are a helpful '
    yield 'assistant.<|endofprompt|>收到好友'
    yield '从远方寄来的生日礼物。'
for i, j in enumerate(cosyvoice.inference_cross_lingual(text_generator(), 'prompt.wav')):
    save('bistream_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
"""  # noqa: E501

LATER = """
print(json.dumps(sorted(cosyvoice.list_available_spks())))
for i, j in enumerate(cosyvoice.inference_zero_shot('收到好友从远方寄来的生日礼物。', '', '', zero_shot_spk_id='new_spk', seed=3)):
    save('later_{}.wav'.format(i), j['tts_speech'], cosyvoice.sample_rate)
"""  # noqa: E501


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = Command(folder)
    names = f"SPEAKERS = {[*SFT_SPEAKERS, ZERO_SHOT_SPEAKER]!r}\n"
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", START + names + script],
        cwd=folder,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result


def prepare(folder: Path, generation: int) -> Path:
    # Of the first generation only the weights called Instruct follow instructions.
    write_folder(folder / "CosyVoice-Instruct", generation)
    make_speechlike(3.0, 24000).save(folder / "prompt.wav")
    make_speechlike(2.0, 24000, seed=1).save(folder / "other.wav")
    return folder


def spoken(folder: Path) -> dict[str, Audio]:
    names = ("prompt.wav", "other.wav")
    return {p.stem: read_audio(p) for p in folder.glob("*.wav") if p.name not in names}


@pytest.mark.parametrize(
    ("generation", "script", "rate", "outputs"),
    [
        (1, GENERATION_1, 22050, {"sft", "zero_shot", "cross_lingual", "vc", "instruct"}),
        (
            3,
            GENERATION_3,
            24000,
            {
                "zero_shot",
                "fine_grained_control",
                "instruct",
                "hotfix",
                "japanese",
                "bistream",
            },
        ),
    ],
    ids=["v1", "v3"],
)
def test_the_example_runs_with_only_the_import_changed(
    tmp_path: Path, generation: int, script: str, rate: int, outputs: set[str]
) -> None:
    run(prepare(tmp_path, generation), script)
    check(spoken(tmp_path), rate, outputs)


def test_speakers_are_found_again_in_a_new_process(tmp_path: Path) -> None:
    folder = prepare(tmp_path, 2)
    run(folder, GENERATION_2)
    outputs = {"zero_shot", "saved", "fine_grained_control", "instruct", "bistream", "older"}
    check(spoken(folder), 24000, outputs)
    listed: Any = json.loads(run(folder, LATER).stdout.splitlines()[-1])
    assert {"new_spk", *SFT_SPEAKERS, ZERO_SHOT_SPEAKER} <= set(listed)
    assert (folder / "later_0.wav").read_bytes() == (folder / "saved_0.wav").read_bytes()


def check(audios: dict[str, Audio], rate: int, outputs: set[str]) -> None:
    assert {name.rpartition("_")[0] for name in audios} == outputs
    for name, audio in audios.items():
        assert audio.sample_rate == rate, name
        assert abs(audio.samples).max() > 1e-3, f"{name} is silent"
