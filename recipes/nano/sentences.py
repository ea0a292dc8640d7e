"""Sentences for synthetic speech: templates of everyday English, public-domain prose, word lists.

    python -m recipes.nano.sentences OUT.txt --prose FILE [FILE ...] --exclude HELD_OUT.txt

Prose files are plain text (Debian's ``fortunes`` and ``bible-kjv-text`` were used). Only the audio
made from these sentences trains the model; the sentences themselves are not distributed.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SLOTS: dict[str, str] = {
    "person": "my sister|my brother|the doctor|our neighbor|the teacher|Anna|Michael|David|Sarah|"
    "my mother|my father|the manager|her cousin|the driver|a friend of mine|Mister Brown|Susan|"
    "the children|the nurse|Peter|the engineer|Emily|my boss|his wife|her husband|the waiter|"
    "the old man|that woman|the student|our guest|the farmer|the captain|Julia|Thomas|Robert",
    "pron": "I|you|we|they",
    "place": "the station|the office|the library|the market|the airport|the hospital|the kitchen|"
    "the garden|the beach|the mountains|school|home|the city|the village|the restaurant|the park|"
    "the river|the bridge|the museum|the bank|the post office|the church|the theater|the bakery|"
    "London|Paris|New York|Chicago|Boston|Canada|the north|the second floor|the main street",
    "time": "tomorrow|today|tonight|on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|"
    "on Saturday|on Sunday|next week|last month|this morning|in the evening|at noon|"
    "at five o'clock|before dinner|after lunch|in the summer|every winter|in January|in October|"
    "a few days ago|two hours later|at the end of the year|as soon as possible|around midnight",
    "thing": "the book|a letter|the key|a new phone|the computer|my coat|the red car|a cup of tea|"
    "some coffee|the umbrella|a glass of water|the report|the tickets|a sandwich|the newspaper|"
    "an old photograph|the window|the door|the blue chair|a wooden box|the yellow bag|the camera|"
    "a birthday present|the map|the bicycle|a loaf of bread|the lamp|fresh fruit|the medicine|"
    "the picture|a warm blanket|the radio|the small table|her glasses|a sharp knife|the shovel",
    "adj": "beautiful|difficult|easy|important|interesting|quiet|cold|warm|expensive|cheap|strange|"
    "wonderful|dangerous|useful|heavy|bright|dark|clean|fresh|broken|busy|empty|full|late|early|"
    "simple|strong|weak|young|serious|funny|perfect|possible|necessary|comfortable|boring|loud",
    "verb": "bring|buy|find|sell|borrow|forget|remember|see|take|carry|choose|paint|check|fix|"
    "return|move|share|keep|lose|hide|show|clean|open|close|use|watch|give back|look for",
    "past": "brought|bought|found|sold|borrowed|forgot|remembered|saw|took|carried|chose|painted|"
    "checked|fixed|returned|moved|shared|kept|lost|hid|showed|cleaned|opened|closed|used|watched",
    "weather": "rain|snow|sunshine|wind|fog|a storm|thunder|clear skies|clouds|frost|warm weather",
    "number": "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    "fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    "ninety|one hundred|two hundred|three thousand|twenty one|thirty five|forty two|ninety nine",
    "animal": "dog|cat|horse|bird|fish|cow|sheep|rabbit|fox|bear|mouse|duck|goat|lion|elephant",
    "food": "soup|rice|cheese|chicken|apples|bananas|chocolate|salad|potatoes|pasta|eggs|ice cream|"
    "pancakes|vegetables|oranges|butter|sugar|salt|pepper|strawberries|cookies|beef|honey",
    "adverb": "quickly|slowly|carefully|usually|never|always|often|really|finally|suddenly|"
    "perhaps|certainly|already|probably|quietly|easily|almost|sometimes",
    "feeling": "happy|sad|tired|angry|afraid|surprised|hungry|thirsty|proud|nervous|excited|sorry",
    "job": "music|history|mathematics|science|English|engineering|medicine|art|law|cooking",
    "go": "go|walk|drive|travel|come|return|hurry|run|ride|fly",
    "units": "minutes|hours|days|weeks|months|years|miles|dollars|pages|people|times|steps|pounds",
}
TEMPLATES = """
{person} {past} {thing} {time}.
{person} {past} {thing} and went to {place}.
Can you {verb} {thing} {time}?
Could you please {verb} {thing} for me?
{pron} want to {verb} {thing} {time}.
{pron} have to {go} to {place} {time}.
Would you like some {food} or some {food}?
Please {verb} {thing} before you {go} to {place}.
The weather will be {adj} {time}, with {weather} and {weather}.
It is {adj} to {verb} {thing} without help.
There are {number} {units} left until we {go} home.
{person} said that the {animal} was {adj} and {adj}.
Where did {person} put {thing}?
Why did {pron} {verb} {thing}?
When will {person} {go} to {place}?
How many {units} does it take to {go} to {place}?
What time does the train to {place} leave?
I am {feeling} because {person} {past} {thing}.
{person} is {adverb} {feeling} when there is {weather}.
We {adverb} eat {food} and {food} {time}.
My favorite food is {food} with {food}.
The {animal} ran {adverb} across the road to {place}.
The {adj} {animal} and the {adj} {animal} were friends.
If it is {adj}, {pron} should {verb} {thing}.
{pron} think the {animal} is {adj}, but {person} does not agree.
{person} lives near {place}, about {number} {units} from here.
{person} has studied {job} for {number} years.
Turn left at {place}, then walk {number} {units} and turn right.
The price of {thing} is {number} dollars.
Thank you for your help with {thing}.
Good morning, how are you feeling today?
Good evening, and welcome to {place}.
I would like to {verb} {thing}, if that is {adj}.
Nobody could {verb} {thing}, because it was too {adj}.
Do not {verb} {thing}; it is {adj}.
She asked me to {verb} {thing} and {verb} {thing}.
He told us that {person} was {feeling}.
They were {number} {units} late, so the meeting was short.
Let us {verb} {thing} {time}.
The door was open, and {person} walked in {adverb}.
I have never seen such a {adj} {animal} in my life.
Is this {thing} yours, or does it belong to {person}?
The meeting starts {time} and ends {number} {units} later.
Your order number is {number}, {number}, {number}.
The answer to the question is {number}.
{person} and {person} are waiting at {place}.
Open the window, please, it is {adj} in here.
My {animal} likes {food}, but it does not like {food}.
This is the {adj} story of {person} and the {adj} {animal}.
The museum is closed {time}.
We were {feeling} to hear that {person} {past} {thing}.
You should {adverb} {verb} {thing} when you {go} to {place}.
""".strip().splitlines()
_GOOD = re.compile(r"^[A-Za-z][A-Za-z ,.'?!;:-]+[.?!]$")


def everyday(rng: random.Random) -> str:
    """One sentence from the templates."""
    slots = {name: choices.split("|") for name, choices in SLOTS.items()}
    sentence = re.sub(r"{(\w+)}", lambda m: rng.choice(slots[m[1]]), rng.choice(TEMPLATES))
    return sentence[0].upper() + sentence[1:]


def prose(paths: Iterable[Path]) -> Iterator[str]:
    """Sentences of 3-20 plain words from text files."""
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore").replace("\n%\n", " . . ")
        for sentence in re.split(r"(?<=[.?!])[\"')]*\s+", re.sub(r"\s+", " ", text)):
            sentence = re.sub(r"^\S*\d\S*\s+", "", sentence.strip(" \"'()*-"))
            plain = _GOOD.match(sentence) and not re.search(r"\b[A-Z]{2,}", sentence)
            if plain and 3 <= len(sentence.split()) <= 20:
                yield sentence


def main() -> None:
    """Write a shuffled list of sentences, one per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prose", type=Path, nargs="*", default=[])
    parser.add_argument("--words", type=Path, help="a word list for random word sequences")
    parser.add_argument("--exclude", type=Path, help="held-out sentences, one per line")
    parser.add_argument("--everyday", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    found = sorted(set(prose(options.prose)))
    rng.shuffle(found)
    result = found[:9000] + [everyday(rng) for _ in range(options.everyday)]
    if options.words:
        words = options.words.read_text(encoding="utf-8").split()
        result += [
            " ".join(rng.choices(words, k=rng.randint(3, 8))).capitalize() + "."
            for _ in range(1500)
        ]
    plain = lambda text: re.sub(r"[^a-z]+", " ", text.lower()).strip()  # noqa: E731
    held_out = set()
    if options.exclude:
        held_out = {
            plain(line) for line in options.exclude.read_text(encoding="utf-8").splitlines()
        }
    result = sorted({s for s in result if plain(s) not in held_out})
    rng.shuffle(result)
    options.out.write_text("\n".join(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
