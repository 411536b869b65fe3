"""English: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: a wish for this one answer ("I want a table") and
the state of the moment ("my build is broken") are no facts.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

# Where a clause of the speaker's own begins.
_BEGIN = (
    r"(?:^|[,;:(–—-]\s*|\b(?:and|but|so|because|since|as|also|actually|btw|by the way|well|fyi|note that|please|hi|hey|hello"
    r"|ok(?:ay)?|no|yes|sorry|oh|then|though|that|when|while|for context|just so you know)\b,?\s+)"
)
_HOW = r"(?:(?:really|always|usually|generally|strongly|definitely|absolutely|personally|also|still|just|only|mostly|now|currently|actually|much|kind of|do|did|honestly|typically|normally)\s+)*"
_I = rf"{_BEGIN}i\s+{_HOW}"
_I_AM = rf"{_BEGIN}(?:i\s+am|i['’]m)\s+{_HOW}"
_WE = rf"{_BEGIN}we\s+{_HOW}"
_NOT = r"(?:(?:do not|don['’]t|did not|didn['’]t|never|no longer|can ?not|can['’]t|will not|won['’]t|would never)\s+)"
_THIS = r"(?!\s+(?:it|this|that|these|those|them|what|how|the (?:idea|way|plan|look|sound|answer|result|first|second)|your|to (?:know|see|ask|hear))\b)"
_MOMENT = (
    r"(?!\s+(?:\w+\s+)?(?:not working|broken|failing|down|slow|crashing|stuck|wrong|missing|giving|throwing|returning|showing|erroring|empty"
    r"|too (?:long|slow|big|short)|what|why|how|whether|when|where|to |that\b|about\b|simple|clear|as follows|below|here|done|ready|okay|ok|fine)\b)"
)
_RELATIVE = (
    r"(?:wife|husband|partner|girlfriend|boyfriend|fianc[ée]e?|spouse|mother|father|mom|mum|dad|sister|brother|son|daughter|kids?|child(?:ren)?|baby"
    r"|grand(?:mother|father|ma|pa)|parents|aunt|uncle|cousin|niece|nephew|roommate|neighbou?r|boss|manager|colleague|teammate|mentor|doctor|dentist|therapist"
    r"|dog|cat|pet|puppy|kitten|car|bike|apartment|flat|house|hometown|hobby|hobbies|major|school|university|employer|company|team|role|title|job|profession"
    r"|phone|laptop|computer|editor|ide|shell|os|operating system|browser|keyboard|salary|budget|diet|blood type|shoe size|height|weight|birth ?place|nationality"
    r"|native language|mother tongue|working hours|office|startup|thesis|domain|website|blog|github(?: \w+)?|handle|username|nickname|pronouns|goal|deadline|flight|appointment|wedding|anniversary|exam|interview)"
)
_SINGLE = r"(?:job title|job|role|title|profession|employer|company|editor|ide|shell|os|operating system|browser|budget|diet|blood type|shoe size|height|weight|birth ?place|nationality|native language|mother tongue|hometown|pronouns|handle|username|github(?: \w+)?|major|domain)"
_PROJECT = (
    r"(?:(?:(?:our|my|the|this)\s+(?:[\w-]+\s+){0,2}(?:project|repo(?:sitory)?|code ?base|monorepo|service|app(?:lication)?|backend|back[- ]end|frontend|front[- ]end|database|db|api|website|site"
    r"|cluster|pipeline|ci|server|package|library|product|stack|infrastructure|staging(?: environment)?|production(?: environment)?|deployments?|releases?|test suite|tests|main branch|default branch|company|team|linter|formatter|schema))|(?:production|staging))"
)
_USES = r"(?:(?:currently|now|still|only|always|never|no longer|also|all|does not|doesn['’]t|do not|don['’]t|must|must not|should never|will|has to|have to|cannot)\s+)*(?:uses?|runs?|lives?|depends?|targets?|supports?|deploys?|needs?|requires?|has|have|is|are|must|was|were|contains?|stores?|follows?|go(?:es)?|ships?|starts?)"

# What starts, ends and follows by itself, and seldom as it should.
_NO_DOER = r"(?!(?:[\w-]+ ){0,2}(?:requests|services|servers|tests|builds|jobs|tasks|containers|pods|process(?:es)?|apps|applications|instances|connections|sessions|threads|scripts|programs|queries|calls|runs|pages|windows|tabs|downloads|games|kids|children|sons|daughters|parents|friends|colleagues|students|employees|workers|customers|clients|users|guests|neighbou?rs|dogs|cats)\b)"
# What an agent can be told to do, as it is said to it: "crashes" and "had" are none of these.
_VERB = (
    r"(?:use|add|ask|answer|reply|respond|write|speak|talk|call|address|name|keep|make|put|start|begin|end|finish|open|close|save|store|run|check|test|format|include|leave|give|tell|show|say|explain|avoid"
    r"|remember|send|create|remind|do|be|mention|translate|convert|round|list|sort|quote|cite|sign|skip|stick|suggest|stop|wait|confirm|update|commit|push|force-push|book|schedule|summari[sz]e|repeat|copy|back up|log"
    r"|note|set|take|turn|treat|assume|consider|read|look|pick|choose|follow|return|provide|print|wrap|indent|spell|switch|draft|attach|link|notify|inform|let|prefix|label|number|date|count|refer|work|think|verify"
    r"|validate|document|comment|refactor|delete|remove|rename|move|change|touch|edit|install|deploy|merge|rebase|squash|review|describe|justify|propose|recommend|offer|limit|double-check|output|present|plan|estimate"
    r"|measure|record|report|search|cc|bcc|forward|greet|thank|apologi[sz]e|stay|go|hard-?code|mock|lint|pin|tag|mark|highlight|capitali[sz]e|abbreviate|type|trust|share|reveal|invent|guess|buy|order|pay|spend|disable|enable|allow|block|encrypt|obey|expect|hide|execute|import|export|publish|release|restart|upgrade|approve|accept|decline|cancel|reschedule|invite|speculate|swear|lie|lecture|argue|waste|interrupt|bother|publish)"
)
_SOFTLY = r"(?:(?:please|just|then|first|kindly|only|always|never|also|do not|don['’]t),? )*"
# Said to the agent, of what it shall do: not what becomes of a server or of prices.
_TOLD = rf"{_SOFTLY}(?:you (?:should|must|may|can|have to|need to)|i(?:['’]d)? (?:always |never |only |would )?(?:want|prefer|expect|like)|i need (?:you|all|your)|let['’]s|no|not|(?:all|every|your) (?:[\w-]+ )?(?:answers?|repl(?:y|ies)|responses?|mails?|e-?mails?|messages?|commits?|files?|documents?|code)|{_VERB})\b"
_ANSWERS = r"(?:answers|replies|responses|explanations|summaries)"

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_BEGIN}(?:my (?:full |first |real |last )?name(?: is|['’]s)|i go by|(?:please )?call me)\s+(?!back|later|when|if|tomorrow|at\b|on\b)\S")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_I}(?:{_NOT})?(?:live|reside) (?:in|at|near|on)\b|{_I_AM}(?:based|living) (?:in|at|near)\b|{_I}(?:have )?(?:just |recently )?(?:moved|relocated) (?:back )?(?:to|from .+ to)\b|{_BEGIN}i['’]ve (?:just |recently )?(?:moved|relocated) to\b")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_I}(?:{_NOT})?work (?:at|for)\b|{_BEGIN}(?:i['’]ve |i have |i )(?:just |recently )?(?:started (?:working )?|joined |got (?:a|my) (?:new )?job |quit (?:my job )?)(?:at|with)?\b|{_I_AM}(?:employed|working) (?:at|by|for)\b")),
    Rule(kind="semantic", pattern=words(rf"{_I}(?:{_NOT})?work (?:as|in|on|with|from|remotely|nights|part|full)\b")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_I_AM}\d{{1,3}}(?: years old)?\s*(?:[.,;!]|$|years|and\b)|{_BEGIN}i (?:just )?turned \d")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"{_BEGIN}my (?:birthday|date of birth) (?:is|was)\b|{_I}was born (?:on|in)\b")),
    Rule(kind="semantic", subject="timezone", pattern=words(rf"{_BEGIN}my time ?zone is\b")),
    Rule(kind="semantic", subject="email", pattern=words(rf"{_BEGIN}my (?:e-?mail)(?: address)? is\b")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_BEGIN}my (?:phone|mobile|cell)(?: number)? is\b")),
    Rule(kind="semantic", subject="address", pattern=words(rf"{_BEGIN}my (?:home |postal )?address is\b")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"^(?!.*\bnever\b)(?=.*\b(?:always|only|from now on|going forward|in future|by default)\b)(?:(?:and|so|also|ok(?:ay)?|please|kindly|always|only|from now on|going forward|in future|by default|(?:when|whenever|if) [^,]{3,60},|no matter [^,]{3,60},|you (?:should|must)|i(?:['’]d)? (?:always )?(?:want|prefer|like|need) (?:you )?(?:to )?),? )*(?:answer|reply|respond|write|speak|talk)(?: to)?(?: me| us)?(?: back)?(?: always| only)? in (?:plain |simple |american |british )?(?:english|german|french|spanish|italian|portuguese|dutch|swedish|danish|norwegian|finnish|polish|czech|russian|ukrainian|turkish|greek|hebrew|arabic|persian|hindi|chinese|mandarin|japanese|korean|vietnamese|thai|indonesian)\b")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"{_BEGIN}i(?:['’]d)?\s+{_HOW}(?:{_NOT})?(?:prefer|favou?r|like|want|love|hate|dislike)\s+(?!(?:your|the|these|those|this|that|some|any|more|other|different|to)\b)(?:[\w,-]+ ){{1,4}}(?:answers|replies|responses|explanations|summaries)\b(?! (?:to|of|from|for|about|below|above|here|now|i|you)\b)")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:my|our) {_NO_DOER}(?:[\w-]+ ){{0,2}}[\w-]+s (?:all |always |usually |never |must (?:not )?|should (?:not )?|have to |do not |don['’]t )*(?:(?:begin|start|end|open|close) with|follow|go (?:in|into|under)|(?:are |be )(?:always |never |all )?(?:written|named|kept|sorted|ordered|numbered|dated|formatted|indented|signed|capitali[sz]ed)(?! by\b| (?:in|at|on|under) (?:the|an?|my|our)\b))\b{_MOMENT}(?! (?:an? )?(?:[\w-]+ )?(?:error|timeout|crash|warning|exception|failure|mess)s?\b)")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:i|we) (?:always |usually |only |never |do not |don['’]t )*(?:keep|write|name|format|store|note|record|count|spell|sort|number|date|label|tag|prefix|indent|sign) (?!(?:code|software|scripts|programs|books?|novels|songs|poems|contracts|deals|papers|the|this|that|it|an?|these|those|them|him|her|you|your|some|for|to|about|\w+ing|(?:my |our )?(?:servers?|backups?|photos|pictures|money|car|bike|keys|files|data|[\w-]+ servers?))\b)(?:[\w-]+ ){{1,4}}(?:(?:in|under)(?! (?:the|an?|my|our|his|her|their|this|that)\b)|as|with|without)\b")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(rf"^(?:(?:and|also|please|but|so),? )*(?:(?:before|after) you [a-z]+ (?:[a-z]+ )?(?:an?|any(?:thing)?|each|every(?:thing)?|one of (?:my|our)|files?|code)|before you [a-z]+ (?:my|our))\b[^?]{{0,100}}, {_SOFTLY}(?:you (?:should|must) )?{_VERB}\b")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(rf"^(?:(?:and|also|please|always),? )*(?:ask (?:me|us)(?: first)? before you [a-z]+ (?!the\b|it\b|that\b|him\b|her\b|them\b)\S|keep (?:all |your |all your |all of your ){_ANSWERS} [a-z]+)")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"{_BEGIN}my (?:absolute |all-time )?(?:favou?rite|preferred|go-to) (?P<subject>[\w -]{{2,30}}?) (?:is|are|was|has always been)\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_BEGIN}i(?:['’]d)?\s+{_HOW}(?:{_NOT})?(?:(?:prefer|favou?r|love|enjoy|adore|hate|dislike|loathe|despise|avoid)|(?<!d )like(?! (?:a|an|to (?:know|see|ask|have|get|understand|book|order|make|add|change|use|find|do)|you to|some|help)\b)|(?:stand|tolerate|eat|drink|trust|want to see)){_THIS}\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_I_AM}(?:not )?(?:allergic to|intolerant|lactose|gluten|vegan|(?:a )?vegetarian|pescatarian|a (?:big |huge )?fan of|not a fan of|colou?r-?blind|left-handed|afraid of|scared of|fond of|into\b)")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"{_BEGIN}(?:from (?:now|here|this (?:point|day|moment)) on(?:wards?)?|going forward|in (?:the )?future|by default|as a rule|for all (?:my|our|future) [\w -]{{1,30}}|unless i (?:say|tell you) otherwise),? {_TOLD}|^(?:please,? |so |and )*{_SOFTLY}{_VERB}\b[^?]* (?:from now on|going forward|in future)[.!]*$")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_BEGIN}(?:from now on|going forward|in (?:the )?future|by default|as a rule|for all (?:my|our|future)|unless i (?:say|tell you) otherwise|every time(?! (?:i|you|we)\b))\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"^(?:please,? |and |so |ok(?:ay)?,? |if you [^,]{{3,60}}, |when(?:ever)? [^,]{{3,80}}, |for [^,]{{3,60}}, |in [^,]{{3,60}}, )*(?:you (?:should|must) )?(?:always|never|do not ever|don['’]t ever)\s+(?:ever )?{_VERB}\b(?! mind)")),
    Rule(kind="preference", confidence=0.8, pattern=words(r"^(?:please,? |and |so |ok(?:ay)?,? |if you [^,]{3,60}, |when(?:ever)? [^,]{3,80}, |for [^,]{3,60}, |in [^,]{3,60}, )*(?:you (?:should|must) )?(?:always|never|do not ever|don['’]t ever)\s+(?!mind|mind\b|heard|seen|used|been|the\b|a\b|got)[a-z]+\s+\S")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(rf"^(?:whenever|when|every time|each time) (?!you(?:['’]re| are|['’]ve| have) (?:all |now )?(?:done|finished|ready|through|back|set)\b)(?:i|you|we)\b(?! [a-z]+ the\b| (?:[a-z'’]+ ){{1,2}}(?:it|him|her|them)\b)[^?]{{4,120}}, {_SOFTLY}(?:you (?:should|must) )?{_VERB}\b")),
    Rule(kind="preference", confidence=0.75, pattern=words(r"^(?:whenever|when|every time|each time) (?:i|you|we)\b[^?]{4,120}, (?:please |then )?(?:always |never |do not |don['’]t )?[a-z]+\b")),
    Rule(kind="preference", is_standing=True, pattern=words(rf"{_I}(?:want|need) (?:you to|all (?:answers|replies|responses)|answers|replies|responses|your (?:answers|replies))\b.*\b(?:always|never|from now on|in future|every)\b")),
    Rule(kind="preference", is_standing=True, pattern=words(rf"{_BEGIN}i (?:always|never|only) want you to\b")),
    Rule(kind="semantic", pattern=words(rf"{_I}(?:{_NOT})?speak (?!to\b|with\b|up\b)\w+|{_I_AM}(?:originally )?from (?!the (?:top|start|beginning))\S|{_I}(?:{_NOT})?(?:have|own|drive|play|study|studied|teach|collect|smoke)\s+(?!(?:a |an |some |the )?(?:question|problem|issue|bug|error|trouble|idea|doubt|script|file|function|list|table|dataset|string|class|look|time|few|couple|meeting|appointment|to\b|been\b|no (?:idea|clue)|this\b|that\b|tried|it\b))\S")),
    Rule(kind="semantic", pattern=words(rf"{_I_AM}(?:not )?(?:an? )(?!bit\b|little\b|lot\b|few\b|big\b|huge\b|beginner at this\b)[\w -]*?\b(?:\w+(?:er|or|ist|ian|ant|ect|eur|ive|ess)|nurse|student|teacher|lawyer|chef|pilot|parent|father|mother|dad|mom|mum|freelancer|consultant|musician|native speaker|phd|postdoc|founder|ceo|cto|intern|expat|citizen|christian|muslim|jew|buddhist|atheist|diabetic|runner|beginner|veteran|widow\w*|twin)\b|{_I_AM}(?:married|divorced|engaged|single|retired|pregnant|deaf|blind|diabetic|self-employed|unemployed)\b")),
    Rule(kind="preference", confidence=0.65, pattern=words(rf"{_BEGIN}i (?:usually|always|often|never|typically|normally|regularly|rarely|mostly) (?!get\b|see\b|receive|have to|end up|find\b|seem|thought|knew|know\b|wonder|heard|used\b|had\b|hear\b)\w+\s+\S|{_BEGIN}(?:i['’]ve|i have) been (?:learning|studying|playing|working (?:at|for|as)|living|married|vegan|vegetarian)\b")),
    Rule(kind="semantic", subject="name of", confidence=0.85, pattern=words(rf"{_BEGIN}my (?P<subject>(?:new |old |older |younger |eldest |youngest )?{_RELATIVE})(?:['’]s name(?: is|['’]s)| (?:is|are) (?:called|named)) (?!not\b)\S")),
    Rule(kind="semantic", subject="my", pattern=words(rf"{_BEGIN}my (?:current |new )?(?P<subject>{_SINGLE}) (?:is|are|['’]s|was) {_MOMENT}\S")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}my (?:(?:new |old |older |younger |eldest |youngest )?{_RELATIVE}(?:['’]s (?:name|birthday|age|job))?)(?: is|['’]s| are| was| has| lives| works| likes| loves| speaks){_MOMENT}")),
    Rule(kind="episodic", pattern=words(rf"(?:{_BEGIN}(?:i|we)(?:['’]ve| have)?\s+{_HOW}(?:just |recently |finally |already )?(?:went to|bought|finished|completed|graduated|got (?:married|engaged|divorced|promoted|hired|fired|a (?:dog|cat|puppy|new))|visited|adopted|retired|signed|launched|released|shipped|deployed|migrated|upgraded|passed|submitted|booked|cancelled|canceled|met with|won|sold|broke my|had (?:surgery|a baby)|quit|resigned|attended)\b(?! (?:this|that|it|the (?:code|error|script|command|above))\b))")),
    Rule(kind="project_state", confidence=0.85, pattern=words(rf"{_BEGIN}(?:we|i|the team)(?:['’]ve| have)?\s+{_HOW}(?:finally )?(?:decided|agreed|settled on|chose|chosen|opted|committed to|ruled out|rejected|dropped|abandoned|picked|approved)\b(?! (?:if|whether|yet)\b)|{_BEGIN}(?:we|i)(?:['’]re| are| am|['’]m) (?:going|sticking|switching|moving|migrating) (?:with|to|away from|from)\b(?! (?:be|do|ask|try|bed|need)\b)|{_BEGIN}let['’]s (?:go with|stick (?:with|to)|settle on|standardi[sz]e on|always|never|not use|agree (?:to|on|that))\b|{_BEGIN}(?:the|our) (?:final )?decision (?:is|was)\b")),
    Rule(kind="project_state", pattern=words(rf"{_WE}(?:{_NOT}|only |now |must |must not |have to )*(?:use|run|deploy|host|store|keep|follow|require|target|support|ship|release|merge|squash|write|test|build|pin|log|work (?:in|with|on)|switched|moved|migrated|renamed|replaced|removed|upgraded)\b(?! (?:this|that|it)\b)")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_PROJECT}(?:['’]s)?\s+{_USES}{_MOMENT}\s+\S")),
    Rule(kind="project_state", subject="project", pattern=words(rf"{_BEGIN}(?:our|the) (?P<subject>(?:launch|release|go-live|deadline|due) ?(?:date|day)?|budget|deadline) (?:is|was|has (?:been )?moved|moved|got moved|has been)\b{_MOMENT}")),
)  # fmt: skip

ENGLISH = Language(
    name="English",
    doubtful=words(
        r"\?\s*[\"')]*$|^(?:(?:hi|hey|so|ok|okay|and|but|well|please),?\s+)*(?:what|why|how|who|whom|whose|which|where|do|does|did|is|are|am|was|were|can|could|would|should|shall|will|may|might|has|have you|have i|had|any (?:idea|chance|way)|tell me|remind me|do you remember)\b(?! is my favou?rite)"
        r"|\b(?:suppose|supposing|imagine|assume|assuming|hypothetical(?:ly)?|what if|as if|pretend|let['’]s say|say i|for (?:example|instance)|e\.g\.|such as when|would be|if i (?:were|was|had)|in theory|in (?:my|the|this) (?:story|novel|game|dream)|maybe|perhaps|not sure (?:if|whether)|might|could have|should have|wonder(?:ing)?|i wish|i(?:['’]d| would) (?:like|love) to)\b"
        r"|^if (?!you\b)|\b(?<!\byou )(?:says?|said|told (?:me|us)|claims?|claimed|thinks?|writes?|wrote|replied|according to|quote[ds]?|reads?:|the (?:article|docs?|documentation|book|page|email|author|manual|post|paper)\b|he|she|they)\b[^,;]{0,40}\b(?:that )?(?:i|we|my|our)\b"
    ),
    asked=words(
        r"^(?:(?:hi|hey|ok(?:ay)?|also|and|please|btw|by the way|could you|can you|one more thing),?\s+)*(?:remember|note|keep in mind|bear in mind|don['’]t forget|do not forget|never forget|make a note|take note|fyi|for (?:your|future) (?:information|reference)|memori[sz]e|save (?:this|it) (?:to|in) (?:your )?memory)\b(?:\s+(?:this|the following))?\s*(?:that\b|:|,|–|-)\s*(?P<fact>\S.{3,})"
        r"|^(?:(?:ok(?:ay)?|also|and|please),?\s+)*(?:remember|don['’]t forget|do not forget|never forget),?\s+(?P<fact2>(?:i|my|we|our|always|never|not to|to always|to never)\b.{3,})"
    ),
    own=words(r"(?:^|[,;(]\s*|\b(?:and|but|so|because|that)\s+)(?:i|we|my|our)\b"),
    at_hand=words(
        r"(?<!from )\b(?:this|these|here)\b|\b(?:above|below|line \d+|(?:right|just|for) now|at the moment|today|tonight|tomorrow|yesterday|(?:on|by|next|last) (?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:next|last) (?:week|month|year|time)"
        r"|(?:in|on|of|to|into|from) the (?:[\w-]+ )?(?:list|config|table|header|footer|page|file|row|column|cell|function|script|class|module|form|menu|button|response|proxy|dialog|app|report|chart|diagram|section|slide|server|container|pipeline|workflow|sheet|query|endpoint|template))\b"
    ),
    rules=_rules,
)
