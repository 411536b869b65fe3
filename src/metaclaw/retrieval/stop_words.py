"""Words that say nothing about a subject.

Owns the list; refuses to know how it is used. Invariant: every entry is in the one spelling that texts are compared in,
and a word that is common in one language but means something in another is left out.
"""

from __future__ import annotations

from metaclaw.retrieval.scripts import one_spelling

_BY_LANGUAGE = (
    # English
    "whom whose a about above after again all also am an and any are as at be because been before being below "
    "between both but by can could did do does doing done down during each few for from further get give go had "
    "has have having he her here him his how i if in into is it its just know let like make me more most my need "
    "no nor not now of off on once only or other our out over own please same she should so some such tell than "
    "thank that the their them then there these they this those through to too under until up us use used user "
    "using very want was way we were what when where which while who why will with would you your don doesn didn "
    "isn ll ve re",
    # German
    "wohin woher womit wozu wofür wieviel wen wem wessen aber als am an auf aus bei bis bitte da das dass dein "
    "deine dem der des die dich dir doch du ein eine einem einen einer eines er es euch euer habe haben hast "
    "hatte hier ich ihm ihn ihr ihre im ist ja jetzt kann kannst können mal mein meine meinem meinen meiner mich "
    "mir mit möchte nach nein nicht noch nur oder schon sein meines meins deines seines ihres ihren ihrem ihrer "
    "unserem unseren unseres seinem seinen seiner seine sich sie sind soll über um und uns unser unsere unter vom "
    "von vor wann warum was welche welchen welcher welches wenn wer werden wie wieder wir wird wo zu zum zur",
    # French
    "combien pourquoi comment lequel laquelle au aux avec ce ces cet cette dans de des du elle elles en est et "
    "être eu il ils je la le les leur leurs lui ma mais moi mon ne nos notre nous on ou où par pas plus pour "
    "quand que quel quelle quelles quels qui quoi sa sans ses si sont sur ta te tes toi tu un une vos votre vous "
    "été ai ont",
    # Spanish and Portuguese
    "adónde cuánto cuántos cuánta cuántas cuáles quiénes al algo como con cual cuál cuando cuándo cuanto de del "
    "desde donde dónde el ella ellos en entre era es esa ese eso esta está este esto estoy fue ha hay he la las "
    "le les lo los me mi mis muy nos o para pero por porque que qué quién se ser si sin sobre su sus te tengo "
    "tiene tu tus un una uno y ya yo ao aos com da das do e ela ele em essa eu foi isso isto mais mas meu meus "
    "minha minhas na não nas no nos num numa os ou para pela pelo por quando quem são se sem ser seu sua também "
    "tem um uma você puede puedes puedo pueden haber hacer hace",
    # Italian and Dutch
    "che chi ci con da dal della delle dei di e è gli ha ho i il io la le lo ma mi mia mio nel non per più quando "
    "quale questa questo sei si sono su sua suo ti tra tu un una aan al alle als bij dan dat de deze die dit een "
    "en er het hij hoe ik in is je jij kan maar me mij mijn naar niet nog of om ons ook op te tot uit voor waar "
    "wat we wie wij ze zijn zij",
    # Russian
    "а без бы был была были было быть в вам вас весь во вот все вы где да для до его ее если есть же за и из или "
    "им их к как какая какие какой ко когда кто ли мне меня мой моя мои мы на над не него нее нет но ну о об он "
    "она они от по под при с свой себя со так там тебя то тоже только ты у уже что чтобы эта эти это этот я какую "
    "какого каком каким каких чего чему кого кому моего моей моему моим моих наш наша наше наши нашего нашей "
    "нашем эту этого этой этом",
    # Single characters of Japanese that stand for "I" and "what"
    "私 僕 俺 何",
    # Pairs of letters that only bind words together (Japanese, Korean)
    "です ます した して ます ませ でし した ない から まで って くだ ださ さい てく いて いま "
    "のは のが では すか とい いう どの んで でい たか には とは こと もの ある いる する れる "
    "습니 니다 세요 어요 해요 하는 에서 으로 입니",
)

STOP_WORDS = frozenset(one_spelling(" ".join(_BY_LANGUAGE)).split())
# In Chinese these stand between words, never at the heart of one that anybody looks for.
STOP_CHARACTERS = str.maketrans(dict.fromkeys("的了吗呢吧啊呀嗎我你您他她它們们请請在是这那哪這什么甚麼怎谁誰", " "))
