"""What a model should still know after it has learned a user's taste: a fixed set of prompts and answers.

Owns the texts; refuses to know models. Invariant: none of them has to do with what ``benchmarks/learning.py`` teaches,
and none is ever trained on.
"""

from __future__ import annotations

GENERAL: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris."),
    (
        "List the four seasons.",
        "1. Spring\n2. Summer\n3. Autumn\n4. Winter",
    ),
    (
        "Translate to Spanish: Good morning, how are you?",
        "Buenos días, ¿cómo estás?",
    ),
    (
        "Write a Python function that adds two numbers.",
        "def add(a, b):\n    return a + b",
    ),
    (
        "Who wrote Romeo and Juliet, and when?",
        "Romeo and Juliet was written by William Shakespeare, most likely between 1594 and 1596.",
    ),
    (
        "Explain photosynthesis.",
        "Photosynthesis is the process by which green plants use sunlight to turn carbon dioxide and water into "
        "glucose and oxygen. It takes place in the chloroplasts of the cells, which contain a green pigment called "
        "chlorophyll.",
    ),
    (
        "Give the result as JSON: a person called Anna who is 30 years old.",
        '{"name": "Anna", "age": 30}',
    ),
    (
        "Correct the grammar: He go to school every days.",
        "He goes to school every day.",
    ),
    (
        "What is 7 times 8? Show your work.",
        "7 times 8 means adding 8 seven times: 8 + 8 + 8 + 8 + 8 + 8 + 8 = 56. So 7 times 8 is 56.",
    ),
    (
        "Write the beginning of a story about a lighthouse keeper.",
        "Every evening, as the sun sank below the horizon, old Thomas climbed the one hundred and twelve steps to the "
        "top of the lighthouse, carrying a lantern in one hand and a book in the other.",
    ),
    (
        "Summarise in one sentence: The meeting was moved from Monday to Thursday because the manager is ill.",
        "Because the manager is ill, the meeting will take place on Thursday instead of Monday.",
    ),
    (
        "Which planets of the solar system have rings?",
        "All four of the giant planets have rings: Jupiter, Saturn, Uranus and Neptune. Those of Saturn are by far the "
        "brightest and easiest to see.",
    ),
)
