"""Texts as in `recall_texts`, of other subjects: written after the search was changed, measured, and never tuned to."""

from __future__ import annotations

from benchmarks.recall_texts import Language

ENGLISH = Language(
    steady=(
        ("My grandfather worked on the {} ferry all his life.", "What did my grandfather do for a living?"),
        ("The spare key is with the neighbour who has the {} sign on her door.", "Who keeps my spare key?"),
        ("We got married in the {} gardens on a rainy Thursday.", "Where was our wedding?"),
        ("Invoices for my studio go out under the name {}.", "Under which name does my studio send invoices?"),
        ("The wifi box is behind the {} shelf in the hall.", "Where did we put the router?"),
        ("For running I always wear the old {} shoes.", "Which shoes do I run in?"),
    ),
    denied=(
        ("I cannot stand the smell of {}, it makes me dizzy.", "Which smell should be avoided around me?"),
        ("Do not book me on {} flights, I had trouble with them.", "Which airline must you not book?"),
    ),
    changing=(
        ("My manager is {} and we get along.", "Who is my manager?"),
        ("I am reading a novel called {}.", "What novel am I reading?"),
        ("Our sprint goal is {} for now.", "What is the goal of our sprint?"),
    ),
    dated=("In the evening we played cards at the {} club.", "At which club did we play cards {}?"),
    others=(
        "My cousin got married in the {} hotel.", "His manager is {}, a strict person.",
        "A friend is reading {} and cannot put it down.", "Her running shoes are from {}.",
    ),
    noise=(
        "Could you translate {} into Italian?", "What rhymes with {}?", "Give me three names for a {} shop.",
        "That is not what I meant.", "Sort these by date, starting with {}.", "How far is {} from here?",
        "Perfect, go on.", "What is the difference between {} and steel?",
    ),
    values=("Magnolia", "Ember", "Ravenna", "Cypress", "Topaz", "Heron", "Saffron", "Viola", "Granite", "Delphi",
            "Comet", "Lantern"),
)  # fmt: skip
GERMAN = Language(
    steady=(
        ("Mein Großvater hat sein Leben lang auf der {}-Fähre gearbeitet.", "Was war der Beruf meines Großvaters?"),
        ("Der Ersatzschlüssel liegt bei der Nachbarin mit dem {}-Schild.", "Wer hat meinen Ersatzschlüssel?"),
        ("Wir haben an einem Donnerstag im {}-Park geheiratet.", "Wo fand unsere Hochzeit statt?"),
        ("Rechnungen für mein Atelier laufen unter dem Namen {}.",
         "Unter welchem Namen schreibt mein Atelier Rechnungen?"),
        ("Der Router steht hinter dem {}-Regal im Flur.", "Wo steht der Router?"),
        ("Zum Laufen ziehe ich immer die alten {}-Schuhe an.", "Mit welchen Schuhen laufe ich?"),
    ),
    denied=(
        ("Den Geruch von {} ertrage ich nicht, mir wird schwindlig.", "Welcher Geruch ist für mich unerträglich?"),
        ("Buche mich nie auf Flüge von {}, da gab es Ärger.", "Welche Fluglinie sollst du nicht buchen?"),
    ),
    changing=(
        ("Meine Vorgesetzte heißt {} und wir verstehen uns.", "Wie heißt meine Vorgesetzte?"),
        ("Ich lese gerade einen Roman mit dem Titel {}.", "Welchen Roman lese ich?"),
        ("Unser Ziel für den Sprint ist {}.", "Was ist das Ziel unseres Sprints?"),
    ),
    dated=("Abends haben wir im {}-Klub Karten gespielt.", "In welchem Klub haben wir {} Karten gespielt?"),
    others=(
        "Mein Cousin hat im Hotel {} geheiratet.", "Seine Vorgesetzte heißt {} und ist streng.",
        "Eine Freundin liest {} und ist begeistert.", "Ihre Laufschuhe sind von {}.",
    ),
    noise=(
        "Übersetze {} bitte ins Italienische.", "Was reimt sich auf {}?", "Nenne drei Namen für einen {}-Laden.",
        "So war das nicht gemeint.", "Sortiere das nach Datum, zuerst {}.", "Wie weit ist es bis {}?",
        "Sehr gut, mach weiter.", "Was unterscheidet {} von Stahl?",
    ),
    values=("Magnolie", "Glut", "Ravenna", "Zypresse", "Topas", "Reiher", "Safran", "Viola", "Granit", "Delphi",
            "Komet", "Laterne"),
)  # fmt: skip
FRENCH = Language(
    steady=(
        ("Mon grand-père a travaillé toute sa vie sur le bac {}.", "Quel était le métier de mon grand-père ?"),
        ("Le double des clés est chez la voisine à l'enseigne {}.", "Qui garde le double de mes clés ?"),
        ("Nous nous sommes mariés un jeudi dans le jardin {}.", "Où a eu lieu notre mariage ?"),
        ("Les factures de mon atelier partent au nom de {}.", "À quel nom sont les factures de mon atelier ?"),
        ("La box internet est derrière l'étagère {} dans l'entrée.", "Où est la box internet ?"),
        ("Pour courir je mets toujours mes vieilles chaussures {}.", "Avec quelles chaussures est-ce que je cours ?"),
    ),
    denied=(
        ("Je ne supporte pas l'odeur de {}, elle me donne le vertige.", "Quelle odeur faut-il éviter près de moi ?"),
        ("Ne me réserve jamais de vol avec {}, j'ai eu des ennuis.", "Avec quelle compagnie ne faut-il pas réserver ?"),
    ),
    changing=(
        ("Ma responsable s'appelle {} et on s'entend bien.", "Comment s'appelle ma responsable ?"),
        ("Je lis un roman intitulé {}.", "Quel roman suis-je en train de lire ?"),
        ("L'objectif de notre sprint est {}.", "Quel est l'objectif de notre sprint ?"),
    ),
    dated=("Le soir nous avons joué aux cartes au club {}.", "Dans quel club avons-nous joué aux cartes {} ?"),
    others=(
        "Mon cousin s'est marié à l'hôtel {}.", "Sa responsable s'appelle {}, elle est sévère.",
        "Une amie lit {} et adore.", "Ses chaussures de course viennent de {}.",
    ),
    noise=(
        "Traduis {} en italien, s'il te plaît.", "Qu'est-ce qui rime avec {} ?", "Trois noms pour une boutique de {} ?",
        "Ce n'est pas ce que je voulais dire.", "Trie ça par date, en commençant par {}.", "À quelle distance est {} ?",
        "Parfait, continue.", "Quelle différence entre {} et l'acier ?",
    ),
    values=("Magnolia", "Braise", "Ravenne", "Cyprès", "Topaze", "Héron", "Safran", "Viole", "Granit", "Delphes",
            "Comète", "Lanterne"),
)  # fmt: skip
CHINESE = Language(
    steady=(
        ("我爷爷一辈子在{}号渡轮上工作。", "我爷爷以什么为生？"),
        ("备用钥匙放在门上挂着{}牌子的邻居那里。", "备用钥匙在谁那里？"),
        ("我们在一个下雨的星期四在{}花园结的婚。", "我们的婚礼在哪里办的？"),
        ("我工作室的发票用的名字是{}。", "工作室开发票用什么名字？"),
        ("路由器在走廊{}架子后面。", "路由器放在哪儿？"),
        ("跑步我总穿那双旧的{}鞋。", "我跑步穿什么鞋？"),
    ),
    denied=(
        ("我受不了{}的气味，会头晕。", "哪种气味要避开？"),
        ("别给我订{}的航班，出过问题。", "哪家航空公司不能订？"),
    ),
    changing=(
        ("我的主管是{}，我们处得不错。", "我的主管是谁？"),
        ("我在读一本叫{}的小说。", "我在读哪本小说？"),
        ("我们这个迭代的目标是{}。", "这个迭代的目标是什么？"),
    ),
    dated=("晚上我们在{}俱乐部打牌。", "{}我们在哪个俱乐部打牌？"),
    others=("我表哥在{}酒店结的婚。", "他的主管是{}，很严格。", "有个朋友在读{}，放不下。", "她的跑鞋是{}牌的。"),
    noise=(
        "把{}翻译成意大利语。", "什么词和{}押韵？", "给{}店起三个名字。", "我不是这个意思。",
        "按日期排一下，从{}开始。", "{}离这里多远？", "很好，继续。", "{}和钢有什么区别？",
    ),
    values=("玉兰", "余烬", "拉文纳", "柏树", "黄玉", "苍鹭", "藏红花", "中提琴", "花岗岩", "德尔斐", "彗星", "灯笼"),
)  # fmt: skip

HELD_OUT = {"English": ENGLISH, "German": GERMAN, "French": FRENCH, "Chinese": CHINESE}
