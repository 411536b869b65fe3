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
How do I cook pasta so that it does not stick? | pasta water stir oil cook boil
Why does the moon have phases? | moon sun phase earth light
What is a good way to remember names? | name remember repeat people person
How do I get rid of fruit flies? | fl fruit trap vinegar
What does compound interest mean? | interest money loan compound invest
How can I make my living room feel bigger? | room space furniture light color mirror
What should I take along on a day hike? | hike water food shoe bring pack trail
How do I calm a crying baby? | baby cry calm soothe
Why do onions make you cry? | onion eye cry tear
How do I write a short speech for a wedding? | speech wedding couple bride write
What is the difference between weather and climate? | weather climate
How do I wash a wool sweater? | wool sweater wash water
Why is the sea salty? | salt sea ocean water
How can I drink more water each day? | water drink bottle day hydrat
What is a good first pet? | pet dog cat fish animal
How do I ask my boss for a raise? | raise boss salary ask work
What does a lawyer do? | lawyer legal law client court
How do I peel garlic quickly? | garlic peel clove
Why do we yawn? | yawn breath brain tired oxygen
How do I plan a week of dinners? | dinner meal plan week food
""")
