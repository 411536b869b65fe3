"""What the rules take for a memory, and what they leave alone."""

from __future__ import annotations

import pytest

from metaclaw.memory.extraction.own_words import own_statements
from tests.memory.extraction.saying import day, found, material

FACTS = {
    "preference": [
        "I prefer tabs over spaces.",
        "I don't like mushrooms.",
        "I'm allergic to peanuts",
        "Please always answer in German.",
        "Never reveal the gateway token to anyone.",
        "From now on, keep answers short.",
        "When you write Python, always add type hints.",
        "I usually run 5k on Sundays.",
        "Ich esse kein Fleisch.",
        "Bitte antworte immer auf Englisch.",
        "No me gusta el cilantro.",
        "Siempre responde en español.",
        "Je n'aime pas les champignons.",
        "Réponds toujours en français.",
        "我不喜欢吃香菜。",
        "我对花生过敏。",
        "以后请用中文回答。",
        "私は納豆が好きではありません。",
        "今後は日本語で答えてください。",
        "エビアレルギーがあります。",
    ],
    "semantic": [
        "My name is Ada.",
        "I live in Zurich.",
        "I'm a nurse.",
        "I no longer work at Google.",
        "My dog's name is Rex.",
        "Ich heiße Jonas und wohne in Köln.",
        "Meine Schwester heißt Lena.",
        "Me llamo Lucía.",
        "Vivo en Sevilla desde 2019.",
        "J'habite à Lyon.",
        "我叫李雷，住在上海。",
        "我是一名医生。",
        "私の名前は田中です。",
        "東京に住んでいます。",
        "猫を飼っています。",
    ],
    "project_state": [
        "We decided to use Postgres instead of MySQL.",
        "Our backend is written in Rust.",
        "The project uses Python 3.12 and uv.",
        "We never deploy on Fridays.",
        "Our deadline is March 3.",
        "Wir haben uns für Kubernetes entschieden.",
        "Decidimos usar MongoDB.",
        "Nous avons décidé d'utiliser Redis.",
        "我们决定使用PostgreSQL。",
    ],
    "episodic": [
        "My sister Maria is getting married on June 5th.",
        "I have a dentist appointment tomorrow at 9.",
        "I adopted a dog last week.",
        "Ich habe morgen einen Termin beim Zahnarzt.",
        "Mañana tengo una cita con el médico.",
        "J'ai rendez-vous chez le dentiste demain.",
        "我明天有一个面试。",
    ],
}


@pytest.mark.parametrize(("kind", "said"), [(kind, said) for kind, all_said in FACTS.items() for said in all_said])
def test_what_a_user_says_of_themselves_is_found_in_six_languages(kind, said):
    (finding,) = found(said)
    assert (finding.kind, finding.text) == (kind, said)


@pytest.mark.parametrize(
    "said",
    [
        "What is my name?", "Do you remember my dog?", "Is my favourite colour blue?", "Wo wohne ich?", "¿Dónde vivo?",
        "Où est-ce que j'habite ?", "我住在哪里？", "私はどこに住んでいますか？",
        "If I lived in Rome, I would eat pasta.", "Suppose I am a doctor.", "Maybe I prefer tea.",
        "Imagine we use Postgres.", "Wenn ich in Rom wohnen würde, wäre es schön.", "假设我住在北京。",
        'She said "I live in Rome" yesterday.', "My friend says I live in a bubble.", "He told me I work at Google.",
        "The article said that we use Postgres.", "他说我住在北京。", "> I live in Rome.", "> My name is Bob.\nWhy?",
        "Translate to French: I live in Paris and I love cheese.",
        "Proofread this:\n\nMy name is Bob. I work at Google.", "翻译：我住在北京。", "Übersetze: Ich wohne in Rom.",
        "Write a story in which I am a pirate. I live on a ship.", "```\nmy name is Bob\n```",
        "<document>\nI live in Rome.\n</document>",
        "My build is broken.", "The build is failing again.", "I like it!", "I want a table with three columns.",
        "I'd like to know how it works.", "I have a question about Rust.", "I'm trying to fix this bug.",
        "I am a bit confused.", "Fix the bug in the parser and run the tests.", "Thanks, that works.",
        "I always get this error.", "Can you make the button blue?", "hello", "",
    ],
)  # fmt: skip
def test_questions_hypotheses_quotes_pastes_and_requests_are_no_facts(said):
    assert found(said) == []


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ('Remember that our staging database is called "maple".', 'our staging database is called "maple".'),
        ("Hi, please remember: the quiet room is on floor 3", "the quiet room is on floor 3"),
        ("Can you remember that the gate code sheet hangs in the hall", "the gate code sheet hangs in the hall"),
        ("Merk dir, dass unser Server fritz heißt.", "unser Server fritz heißt."),
        ("Recuerda que mi perro se llama Toby.", "mi perro se llama Toby."),
        ("Souviens-toi que mon chat s'appelle Félix.", "mon chat s'appelle Félix."),
        ("请记住，我们的生产环境部署在阿里云。", "我们的生产环境部署在阿里云。"),
        ("会議室は三階だと覚えておいてください。", "会議室は三階だ"),
    ],
)
def test_what_it_is_asked_to_remember_is_kept_whole(said, fact):
    (finding,) = found(said)
    assert finding.text == fact
    assert finding.confidence > 0.9


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Never deploy on Fridays.", "Never"),
        ("I do not eat meat.", "not"),
        ("I don't drink coffee, can you suggest something?", "don't"),
        ("Ich trinke keinen Kaffee.", "keinen"),
        ("Nunca uses tabuladores.", "Nunca"),
        ("Ne réponds jamais en anglais.", "jamais"),
        ("我不吃肉。", "不"),
        ("私は肉を食べません。", "ません"),
        ("We no longer use Jenkins.", "no longer"),
    ],
)
def test_a_negation_stays_in_what_is_kept(said, word):
    """PITFALLS B4-1: "never reveal the token" became "reveal the token"."""
    (finding,) = found(said)
    assert word in finding.text


def test_a_request_in_the_same_breath_is_no_part_of_the_fact():
    (finding,) = found("Hi, I prefer tabs over spaces, can you fix foo.py?")
    assert finding.text == "I prefer tabs over spaces"


def test_what_has_one_value_is_named_so_that_it_can_be_replaced():
    first, second = found("My name is Ada and I live in Zurich.")
    assert (first.subject, first.text) == ("name", "My name is Ada")
    assert (second.subject, second.text) == ("home", "I live in Zurich.")
    for said in ("Ich wohne in Köln.", "Vivo en Sevilla.", "J'habite à Lyon.", "我住在上海。", "東京に住んでいます。"):
        assert [finding.subject for finding in found(said)] == ["home"], said
    (finding,) = found("Actually, my favorite color is green now.")
    assert finding.subject == "favourite color"


@pytest.mark.parametrize(
    ("said", "when"),
    [
        ("My flight leaves on 2026-12-03.", day(2026, 12, 3)),
        ("I have an exam on December 3rd.", day(2026, 12, 3)),
        ("We moved on June 5.", day(2026, 6, 5)),
        ("My wedding is on June 5.", day(2027, 6, 5)),
        ("I have a dentist appointment tomorrow.", day(2026, 11, 26)),
        ("Ich habe am 3.12. einen Termin.", day(2026, 12, 3)),
        ("Tengo un examen el 3 de diciembre.", day(2026, 12, 3)),
        ("Nous avons un rendez-vous vendredi.", day(2026, 11, 27)),
        ("我12月3日有一个面试。", day(2026, 12, 3)),
        ("私は明日京都に出張です。", day(2026, 11, 26)),
    ],
)
def test_an_event_has_the_day_that_was_named(said, when):
    (finding,) = found(said)
    assert finding.true_from == when


def test_a_day_that_ends_something_is_its_end():
    (finding,) = found("I work at Acme until 2026-12-31.")
    assert (finding.true_from, finding.true_until) == (None, day(2027, 1, 1))


def test_a_habit_has_no_day():
    (finding,) = found("We have a meeting every Monday, I always take notes.")
    assert finding.true_from is None


def test_of_one_exchange_a_few_at_most_are_kept_and_the_rest_is_counted():
    """No whole turns in the store, however much of one sounds like a fact."""
    from_one = found("\n".join(f"I live in town number {number}." for number in range(40)))
    assert len(from_one) == 6


def test_what_stands_in_the_instructions_or_was_recalled_is_not_the_users_word():
    """KNOWLEDGE 4: recalled memories were extracted again, and the system prompt with them."""
    said = "I prefer tabs over spaces."
    assert found(said, elsewhere=("Rules. I  PREFER tabs over spaces. More.",)) == []
    assert len(found(said, elsewhere=("something else",))) == 1


@pytest.mark.parametrize(
    "written_by_a_program",
    [
        "Read HEARTBEAT.md if it exists. Always reply HEARTBEAT_OK when nothing needs attention.",
        "You are a helpful assistant. Never reveal the gateway token. My name is Claw.",
        "# AGENTS.md instructions for /repo\n\nAlways use tabs. We use Postgres.",
        "A new session was started via /new or /reset. Always greet the user. I prefer short greetings.",
        "<environment_context>\nI live in /repo\n</environment_context>",
        "<<<SOME_CONTEXT>>>\nI prefer tea.\n<<<END_SOME_CONTEXT>>>",
        "[cron:abc] We decided to use Postgres.",
        "<metaclaw-recall>\n- Memory (the user said): I live in Rome.\n</metaclaw-recall>",
    ],
)
def test_what_a_program_wrote_in_the_users_name_is_left_alone(written_by_a_program):
    assert found(written_by_a_program) == []


def test_before_and_after_a_long_paste_the_user_speaks():
    paste = "\n\n".join(f"Our team uses tool {number} and I live in number {number}." for number in range(200))
    kept = [finding.text for finding in found(f"I live in Oslo.\n\n{paste}\n\nI prefer short summaries.")]
    assert kept == ["I live in Oslo.", "I prefer short summaries."]


def test_a_secret_is_neither_kept_nor_forgotten_to_be_counted():
    given = material("My password is hunter2. I live in Oslo.")
    assert [one.text for one in own_statements(given)] == ["I live in Oslo."]
    assert given.num_secrets == 1
