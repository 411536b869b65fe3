"""Sixty everyday questions: forty to learn from, twenty held out.

Owns the questions and, for each, the words of which an answer to the point mentions at least one (as stems, lower
case). Invariant: no question is in both lists, and the held-out ones are never sent as turns to learn from.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    stems: tuple[str, ...]


def _prompts(table: str) -> tuple[Prompt, ...]:
    rows = (line.split(" | ") for line in table.strip().splitlines())
    return tuple(Prompt(text, tuple(stems.split())) for text, stems in rows)


LEARNING = _prompts("""
How do I keep basil alive in the kitchen? | basil plant water light sun soil pot
What should I cook with leftover rice? | rice fried cook dish soup egg meal
How can I fall asleep faster? | sleep bed relax night breath rest
Why does bread go stale? | bread stale moist starch air dry
How do I remove a coffee stain from a shirt? | stain coffee shirt wash water soap
What is a good gift for a ten year old? | gift book toy game child old
How often should I water a cactus? | water cactus week soil dry
What is the difference between a virus and a bacterium? | virus bacteri cell
How do I boil an egg? | egg boil water minute
Why is the sky blue? | sky blue light scatter
What should I pack for a weekend at the beach? | pack beach towel sun swim
How do I write a polite reminder to a colleague? | remind polite colleague email write
What does a carburetor do? | carburetor fuel air engine
How do I clean a cast iron pan? | pan iron clean oil water
What are good stretches for a stiff neck? | neck stretch head shoulder
How does a refrigerator work? | refrigerat cool heat cold air
Should I rent or buy a home? | rent buy home house
How do I start running as a beginner? | run start slow begin week pace
What is inflation? | inflation price money rise increase
How can I save money on groceries? | grocer money save buy list store
Why do cats purr? | cat purr
How do I change a bicycle tube? | tube tire wheel bicycle bike
What is the best time to plant tomatoes? | tomato plant spring soil frost
How do I prepare for a job interview? | interview job prepar compan question
What causes thunder? | thunder lightning air sound
How do I fold a fitted sheet? | sheet fold corner
What is a healthy breakfast? | breakfast egg fruit oat healthy
How do I stop procrastinating? | procrastinat task goal start work time
Why do leaves change colour in autumn? | leaves leaf colo chlorophyll autumn
What is the difference between jam and jelly? | jam jelly fruit
How do I make strong coffee without a machine? | coffee water brew ground cup
What is a black hole? | black hole gravity space star light
How can I learn ten new words a day? | word learn day vocab practi
How do I choose a ripe avocado? | avocado ripe soft color press
Why do we dream? | dream sleep brain mind
How do I keep my houseplants healthy while on holiday? | plant water holiday vacation
What is a mortgage? | mortgage loan home house money
How do I sharpen a kitchen knife? | knife sharp stone blade
What should I do when my phone gets wet? | phone water dry wet turn
How do I thank a teacher? | teacher thank appreciat
""")

HELD_OUT = _prompts("""
How do I keep bananas from turning brown? | banana brown peel fruit cool stem wrap
Why do ships float? | ship float water buoyan dens weight
What is a quick stretch for a sore back? | stretch back knee floor spine
How do I choose a good password? | password letter number character symbol long
What does a heat pump do? | heat pump air warm cool energy
How do I get a toddler to eat vegetables? | vegetable toddler eat food plate child
Why does metal feel colder than wood? | metal wood heat cold conduct temperature
What is the difference between a city and a town? | city cities town people population larger
How do I repot a plant? | pot plant soil root
What should I say when I forget a birthday? | birthday forget forgot sorry apolog wish
How do I cool a room without air conditioning? | room fan window cool air curtain
Why do we need vitamin C? | vitamin immune body health skin
How do I back up my photos? | photo back cloud drive storage file
What is a good warm-up before lifting weights? | warm weight lift muscle stretch
How does a compass work? | compass magnet needle north
How do I split a bill fairly among friends? | bill friend split pay share
Why do dogs wag their tails? | dog tail wag happy emotion
What can I cook with chickpeas? | chickpea hummus salad cook soup curry
How do I remove a splinter? | splinter skin tweezer needle
What is a leap year? | leap year day february
""")
