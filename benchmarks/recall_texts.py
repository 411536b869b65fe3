"""What the people of `benchmarks/recall.py` say and ask, in six languages. Written once, before anything was measured.

A fact is a statement with a slot, a question that shares few words with it, and values for the slot. ``changing`` facts
are said twice with different values: the newer statement alone is evidence. ``dated`` ones are said every week with
another value: the question names the week. ``noise`` is said by the same person and answers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

Fact = tuple[str, str]  # statement with {}, question


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language: ``values`` fill every slot of it."""

    steady: tuple[Fact, ...]
    denied: tuple[Fact, ...]
    changing: tuple[Fact, ...]
    dated: Fact
    others: tuple[str, ...]  # the same said of somebody else
    noise: tuple[str, ...]
    values: tuple[str, ...]


ENGLISH = Language(
    steady=(
        ("My daughter Mia was born in the year of the {} festival.", "When is Mia's year of birth connected to?"),
        ("Our cat is called {} because of a cartoon.", "What is the name of my cat?"),
        ("I am learning the guitar with a teacher from {}.", "Who gives me guitar lessons, from where?"),
        ("The report for the board has to be finished before the {} meeting.", "What is the deadline of the report?"),
        ("My dentist has her practice next to the {} station.", "Where do I find my dentist?"),
        ("For backups I keep the disk labelled {} in the cellar.", "Which disk holds my backups?"),
    ),
    denied=(
        ("I do not eat anything with {} since I had that reaction.", "What must not be in my food?"),
        ("Never call me on the {} number, it is my employer's.", "Which number should not be called?"),
    ),
    changing=(
        ("I live in {} and like the neighbourhood.", "In which city do I live?"),
        ("At work I am responsible for the {} team.", "Which team am I responsible for?"),
        ("I drive a {} these days.", "Which car do I drive?"),
    ),
    dated=("On Saturday we hiked up the {} hill with friends.", "Where did we hike {}?"),
    others=(
        "My brother lives in {} and complains about the rent.", "A colleague drives a {} and loves it.",
        "The neighbours' cat is called {}.", "Her team is called {}, we are in touch.",
    ),
    noise=(
        "Can you shorten this paragraph about {} for me?", "What is the weather in {} tomorrow?",
        "Write a polite mail to the {} office, please.", "How many grams are in a pound of {}?",
        "Thanks, that helped a lot.", "Explain how {} works, in two sentences.", "Plan a weekend trip to {} for three.",
        "I watched a documentary about {} last night.",
    ),
    values=("Lisbon", "Falcon", "Juniper", "Orion", "Basel", "Walnut", "Cobalt", "Tango", "Harbour", "Maple", "Zenith",
            "Pepper"),
)  # fmt: skip
GERMAN = Language(
    steady=(
        ("Meine Tochter Lena kam im Jahr des {}-Festes zur Welt.", "In welchem Jahr wurde Lena geboren?"),
        ("Unser Kater heißt {}, wegen einer Zeichentrickfigur.", "Wie ist der Name meines Katers?"),
        ("Ich lerne Gitarre bei einem Lehrer aus {}.", "Woher ist mein Gitarrenlehrer?"),
        ("Der Bericht für den Vorstand muss vor der {}-Sitzung fertig sein.", "Bis wann brauche ich den Bericht?"),
        ("Meine Zahnärztin hat ihre Praxis neben dem Bahnhof {}.", "Wo finde ich meine Zahnärztin?"),
        ("Für Sicherungen liegt die Platte mit der Aufschrift {} im Keller.", "Auf welcher Platte sind Sicherungen?"),
    ),
    denied=(
        ("Ich esse nichts mehr mit {}, seit ich darauf reagiert habe.", "Was darf nicht in meinem Essen sein?"),
        ("Ruf mich nie unter der Nummer {} an, die gehört der Firma.", "Welche Nummer soll man nicht anrufen?"),
    ),
    changing=(
        ("Ich wohne in {} und mag das Viertel.", "In welcher Stadt wohne ich?"),
        ("In der Firma leite ich jetzt die Gruppe {}.", "Welche Gruppe leite ich?"),
        ("Zurzeit fahre ich einen {}.", "Welches Auto fahre ich?"),
    ),
    dated=("Am Samstag sind wir mit Freunden auf den {}-Berg gewandert.", "Wohin sind wir {} gewandert?"),
    others=(
        "Mein Bruder wohnt in {} und klagt über die Miete.", "Eine Kollegin fährt einen {} und ist begeistert.",
        "Der Kater der Nachbarn heißt {}.", "Ihre Gruppe heißt {}, wir haben Kontakt.",
    ),
    noise=(
        "Kannst du diesen Absatz über {} kürzen?", "Wie wird morgen das Wetter in {}?",
        "Schreib bitte eine höfliche Mail an das Amt in {}.", "Wie viel Gramm hat ein Pfund {}?",
        "Danke, das hat sehr geholfen.", "Erkläre in zwei Sätzen, wie {} funktioniert.",
        "Plane ein Wochenende in {} für drei Personen.", "Gestern sah ich einen Film über {}.",
    ),
    values=("Lissabon", "Falke", "Wacholder", "Orion", "Basel", "Walnuss", "Kobalt", "Tango", "Hafen", "Ahorn", "Zenit",
            "Pfeffer"),
)  # fmt: skip
SPANISH = Language(
    steady=(
        ("Mi hija Lucía nació el año del festival de {}.", "¿En qué año nació Lucía?"),
        ("Nuestro gato se llama {} por unos dibujos animados.", "¿Qué nombre tiene mi gato?"),
        ("Aprendo guitarra con un profesor de {}.", "¿De dónde es mi profesor de guitarra?"),
        ("El informe debe estar listo antes de la reunión de {}.", "¿Para cuándo hay que terminar el informe?"),
        ("Mi dentista tiene la consulta junto a la estación de {}.", "¿Dónde está mi dentista?"),
        ("El disco con las copias de seguridad lleva la etiqueta {}.", "¿En qué disco guardo las copias?"),
    ),
    denied=(
        ("No como nada que lleve {} desde aquella reacción.", "¿Qué no puede haber en mi comida?"),
        ("Nunca me llames al número {}, es de la empresa.", "¿A qué número no hay que llamar?"),
    ),
    changing=(
        ("Vivo en {} y me gusta el barrio.", "¿En qué ciudad vivo?"),
        ("En el trabajo dirijo ahora el equipo {}.", "¿Qué equipo dirijo?"),
        ("Últimamente conduzco un {}.", "¿Qué coche conduzco?"),
    ),
    dated=("El sábado subimos con amigos al monte {}.", "¿A qué monte subimos {}?"),
    others=(
        "Mi hermano vive en {} y se queja del alquiler.", "Una colega conduce un {} y está encantada.",
        "El gato de los vecinos se llama {}.", "Su equipo se llama {}, estamos en contacto.",
    ),
    noise=(
        "¿Puedes acortar este párrafo sobre {}?", "¿Qué tiempo hará mañana en {}?",
        "Escribe un correo amable a la oficina de {}.", "¿Cuántos gramos tiene una libra de {}?",
        "Gracias, me ha ayudado mucho.", "Explica en dos frases cómo funciona {}.",
        "Planea un fin de semana en {} para tres.", "Anoche vi un documental sobre {}.",
    ),
    values=("Lisboa", "Halcón", "Enebro", "Orión", "Basilea", "Nogal", "Cobalto", "Tango", "Puerto", "Arce", "Cenit",
            "Pimienta"),
)  # fmt: skip
RUSSIAN = Language(
    steady=(
        ("Моя дочь Маша родилась в год фестиваля «{}».", "В каком году родилась Маша?"),
        ("Нашего кота зовут {}, как в мультфильме.", "Какая кличка у моего кота?"),
        ("Я учусь играть на гитаре у преподавателя из города {}.", "Откуда мой преподаватель гитары?"),
        ("Отчёт для совета нужен до собрания «{}».", "К какому сроку нужен отчёт?"),
        ("Кабинет моей зубной врачихи рядом со станцией {}.", "Где принимает мой зубной врач?"),
        ("Диск с резервными копиями подписан {} и лежит в подвале.", "На каком диске резервные копии?"),
    ),
    denied=(
        ("Я больше не ем ничего, где есть {}, после той реакции.", "Чего не должно быть в моей еде?"),
        ("Никогда не звони мне на номер {}, это рабочий.", "На какой номер нельзя звонить?"),
    ),
    changing=(
        ("Я живу в городе {} и люблю свой район.", "В каком городе я живу?"),
        ("На работе я теперь руковожу группой «{}».", "Какой группой я руковожу?"),
        ("Сейчас я езжу на машине {}.", "На какой машине я езжу?"),
    ),
    dated=("В субботу мы с друзьями поднялись на гору {}.", "На какую гору мы поднимались {}?"),
    others=(
        "Мой брат живёт в городе {} и жалуется на аренду.", "Коллега ездит на машине {} и доволен.",
        "Кота соседей зовут {}.", "Её группа называется «{}», мы общаемся.",
    ),
    noise=(
        "Можешь сократить этот абзац про {}?", "Какая завтра погода в городе {}?",
        "Напиши вежливое письмо в контору {}.", "Сколько граммов в фунте, если это {}?",
        "Спасибо, очень помогло.", "Объясни в двух предложениях, что такое {}.",
        "Составь план выходных в городе {} на троих.", "Вчера смотрел фильм про {}.",
    ),
    values=("Лиссабон", "Сокол", "Можжевельник", "Орион", "Базель", "Орех", "Кобальт", "Танго", "Гавань", "Клён",
            "Зенит", "Перец"),
)  # fmt: skip
CHINESE = Language(
    steady=(
        ("我女儿小雨出生在{}节那一年。", "小雨是哪一年出生的？"),
        ("我们家的猫叫{}，是动画片里的名字。", "我的猫叫什么名字？"),
        ("我跟一位从{}来的老师学吉他。", "我的吉他老师是哪里人？"),
        ("给董事会的报告要在{}会议之前写完。", "报告的截止时间是什么时候？"),
        ("我的牙医诊所在{}车站旁边。", "我的牙医在哪里？"),
        ("备份硬盘上贴着{}的标签，放在地下室。", "备份在哪块硬盘上？"),
    ),
    denied=(
        ("自从那次过敏，我不吃任何含{}的东西。", "我的饭菜里不能有什么？"),
        ("不要打{}那个号码找我，那是公司的。", "哪个号码不能打？"),
    ),
    changing=(
        ("我住在{}，很喜欢这个街区。", "我住在哪个城市？"),
        ("我现在在公司负责{}小组。", "我负责哪个小组？"),
        ("我最近开一辆{}牌的车。", "我开什么车？"),
    ),
    dated=("星期六我们和朋友爬了{}山。", "{}我们爬了什么山？"),
    others=(
        "我哥哥住在{}，总抱怨房租。", "有个同事开{}牌的车，很满意。", "邻居的猫叫{}。", "她的小组叫{}，我们有联系。",
    ),
    noise=(
        "帮我把这段关于{}的文字缩短一下。", "明天{}天气怎么样？", "请给{}办公室写一封礼貌的邮件。",
        "一斤{}是多少克？", "谢谢，很有帮助。", "用两句话解释{}是怎么回事。", "给三个人计划一个{}周末游。",
        "昨晚我看了一部关于{}的纪录片。",
    ),
    values=("里斯本", "猎鹰", "杜松", "猎户", "巴塞尔", "核桃", "钴蓝", "探戈", "海港", "枫叶", "天顶", "胡椒"),
)  # fmt: skip
JAPANESE = Language(
    steady=(
        ("娘のさくらは{}祭の年に生まれました。", "さくらは何年生まれですか？"),
        ("うちの猫の名前はアニメから取って{}です。", "私の猫は何という名前ですか？"),
        ("{}出身の先生にギターを習っています。", "ギターの先生はどこの人ですか？"),
        ("役員会の報告書は{}会議の前に仕上げます。", "報告書の締め切りはいつですか？"),
        ("通っている歯医者は{}駅の隣にあります。", "私の歯医者はどこですか？"),
        ("バックアップ用のディスクは{}と書いて地下室に置いています。", "バックアップはどのディスクですか？"),
    ),
    denied=(
        ("あの反応以来、{}の入った物は食べません。", "私の食事に入れてはいけない物は？"),
        ("{}の番号には電話しないでください、会社のです。", "電話してはいけない番号は？"),
    ),
    changing=(
        ("{}に住んでいて、近所が気に入っています。", "どの街に住んでいますか？"),
        ("会社では今{}チームを担当しています。", "担当しているチームはどれですか？"),
        ("最近は{}という車に乗っています。", "どの車に乗っていますか？"),
    ),
    dated=("土曜日に友達と{}山に登りました。", "{}どの山に登りましたか？"),
    others=(
        "兄は{}に住んでいて家賃に不満です。", "同僚は{}という車に乗って満足しています。", "隣の猫の名前は{}です。",
        "彼女のチームは{}といい、連絡を取っています。",
    ),
    noise=(
        "{}についてのこの段落を短くしてください。", "明日の{}の天気は？", "{}事務所に丁寧なメールを書いて。",
        "{}一ポンドは何グラム？", "ありがとう、助かりました。", "{}の仕組みを二文で説明して。",
        "三人で行く{}の週末旅行を計画して。", "昨夜{}の記録映画を見ました。",
    ),
    values=("リスボン", "ハヤブサ", "杜松", "オリオン", "バーゼル", "胡桃", "コバルト", "タンゴ", "港町", "楓",
            "天頂", "胡椒"),
)  # fmt: skip

LANGUAGES = {
    "English": ENGLISH, "German": GERMAN, "Spanish": SPANISH, "Russian": RUSSIAN, "Chinese": CHINESE,
    "Japanese": JAPANESE,
}  # fmt: skip
LAST_WEEK = {
    "English": "last week", "French": "la semaine dernière", "German": "letzte Woche",
    "Spanish": "la semana pasada", "Russian": "на прошлой неделе",
    "Chinese": "上周", "Japanese": "先週",
}  # fmt: skip
THREE_WEEKS_AGO = {
    "English": "three weeks ago", "French": "il y a trois semaines", "German": "vor drei Wochen",
    "Spanish": "hace tres semanas",
    "Russian": "три недели назад", "Chinese": "三周前", "Japanese": "三週間前に",
}  # fmt: skip
