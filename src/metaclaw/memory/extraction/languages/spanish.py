"""Spanish: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: as for English; the verb alone says who speaks.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

_BEGIN = r"(?:^|[,;:(–—¡-]\s*|\b(?:y|pero|porque|pues|además|también|por cierto|bueno|hola|que|ya que|como)\b,?\s+)(?:yo\s+)?"
_NO = r"(?:(?:ya |todavía |nunca |jamás |no |siempre |también |normalmente |actualmente |ahora |realmente |solo |sólo |aún )*)"
_RELATIVE = r"(?:esposa|mujer|marido|esposo|pareja|novi[oa]|madre|padre|mamá|papá|herman[oa]|hij[oa]s?|abuel[oa]|jef[ea]|compañer[oa]|perr[oa]|gat[oa]|coche|carro|casa|piso|apartamento|hobby|empresa|equipo|trabajo|profesión|ordenador|portátil|editor|lengua materna|idioma materno|cita|boda|examen)"
_PROJECT = r"(?:(?:nuestr[oa]|mi|el|la|este|esta)\s+(?:proyecto|repositorio|repo|servicio|aplicación|app|backend|frontend|base de datos|api|sitio|web|clúster|pipeline|servidor|paquete|biblioteca|producto|infraestructura|despliegue|empresa|equipo)(?:\s+de\s+\w+)?)"

# Como se le dice a un agente: "falla" y "funciona" no lo son.
_TU = r"(?:responde(?:me)?|respóndeme|contesta|usa|utiliza|escribe|habla|háblame|pon|añade|agrega|evita|mantén|guarda|pregunta|pregúntame|dame|muestra|muéstrame|explica|empieza|termina|firma|llámame|traduce|resume|cita|verifica|comprueba|ejecuta|prueba|haz|dime|envía|deja|elige|sigue|borra|modifica|cambia|confirma|espera|redondea|ordena|incluye|trátame|tutéame|responda|conteste|use|utilice|escriba|hable|ponga|añada|evite|mantenga|guarde|pregunte)"
_DESDE_AHORA = r"(?:a partir de ahora|de ahora en adelante|desde ahora|en el futuro|por defecto)"

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_BEGIN}(?:me llamo|mi nombre es|llámame)\s+\S")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_BEGIN}{_NO}(?:vivo|resido) (?:en|cerca|con)\b|{_BEGIN}(?:me (?:he )?mud(?:é|ado)|me traslad[eé]) a\b")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_BEGIN}{_NO}trabajo (?:en|para)\b")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}{_NO}trabajo (?:como|de|con|desde)\b")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_BEGIN}(?:tengo|cumplí) \d{{1,3}} años\b")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"{_BEGIN}(?:mi cumpleaños es|nací (?:el|en))\b")),
    Rule(kind="semantic", subject="email", pattern=words(rf"{_BEGIN}mi (?:correo|e-?mail)(?: electrónico)? es\b")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_BEGIN}mi (?:teléfono|móvil|número de teléfono) es\b")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"^(?!.*\b(?:nunca|jamás)\b)(?=.*\b(?:siempre|solo|sólo|a partir de ahora|de ahora en adelante|desde ahora|en el futuro)\b)(?:(?:y|por favor|siempre|a partir de ahora|de ahora en adelante|desde ahora|en el futuro),? )*(?:responde|respóndeme|responda|contesta|contéstame|conteste|escribe|escríbeme|escriba|habla|háblame|hable)\b.*\ben (?:español|castellano|inglés|alemán|francés|italiano|portugués|ruso|árabe|chino|japonés|coreano)\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:mis|nuestr[oa]s) [\w-]+(?: [\w-]+)? (?:empiezan|comienzan|(?:terminan|acaban) (?:con|en|por)|siguen|se escriben|van siempre (?:en|con))\b(?! (?:un )?(?:error|fallo)\b)|{_BEGIN}{_NO}(?:escribo|anoto|guardo|nombro|ordeno) (?:siempre )?(?:los|las|mis) [\w-]+ (?:en|como|con|por|sin)\b|{_BEGIN}{_NO}(?:prefiero|quiero|me gustan)\b[^.?]{{0,40}}\b(?:respuestas|explicaciones)\b")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(r"^(?:(?:y|también|pero),? )*antes de \w+ (?:un[oa]?|cada|cualquier|algo|mis?|uno de mis)\b[^?]{0,100}, (?:por favor,? )?\w+")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"{_BEGIN}mi (?P<subject>[\w ]{{2,30}}?) (?:favorit[oa]|preferid[oa]) (?:es|son|era)\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_BEGIN}{_NO}(?:prefiero|odio|detesto|adoro|evito|como(?= carne| pescado| gluten| l[aá]cteos)|bebo)\b|{_BEGIN}{_NO}me (?:gusta|gustan|encanta|encantan|molesta|molestan|disgusta)\b(?! (?:esto|eso|tu)\b)")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_BEGIN}{_NO}soy (?:alérgic[oa]|vegetarian[oa]|vegan[oa]|intolerante|celíac[oa]|daltónic[oa]|zurd[oa]|fan de)\b|{_BEGIN}tengo alergia\b")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"^(?:y )?{_DESDE_AHORA},? (?:por favor,? )?(?:siempre )?(?:{_TU}\b|(?:no|nunca|jamás) (?:me |te |lo |la )?\w+[ae]s\b|sin |nada de |quiero\b|prefiero\b|ning[uú]n)|^(?:y )?(?:{_TU}|no \w+[ae]s)\b.*\b{_DESDE_AHORA}[.!]*$")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"\b{_DESDE_AHORA}\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"^(?:por favor,? |y |cuando [^,]{{3,80}}, )*(?:siempre {_TU}|(?:nunca|jamás) (?:me |te |lo |la |se )?(?!fues\b|has\b|vas\b)\w+[ae]s|{_TU} siempre)\b")),
    Rule(kind="preference", confidence=0.8, pattern=words(r"^(?:por favor,? |y |cuando [^,]{3,80}, )*(?:siempre|nunca|jamás) (?:me |te |lo |la |se )?\w+\s+\S|^(?:por favor,? )?(?:responde|contesta|usa|escribe|respóndeme|háblame) siempre\b")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}{_NO}(?:hablo (?!de\b|con\b)|soy de |estudio |toco |juego al |enseño |conduzco |fumo\b)\S*|{_BEGIN}{_NO}soy (?:un |una )?(?:\w+(?:er[oa]|or|ora|ista|ante|ente|ivo)|médic[oa]|abogad[oa]|padre|madre|estudiante|casad[oa]|divorciad[oa]|solter[oa]|jubilad[oa]|autónom[oa])\b|{_BEGIN}{_NO}tengo (?:un|una|dos|tres|cuatro|cinco) (?!pregunta|problema|duda|error|idea|archivo|función|lista|momento|reunión|cita)\S|{_BEGIN}estoy (?:casad[oa]|divorciad[oa]|embarazada|jubilad[oa])\b")),
    Rule(kind="semantic", subject="name of", pattern=words(rf"{_BEGIN}mi (?P<subject>{_RELATIVE}) se llama\b")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}mi (?:{_RELATIVE}) (?:es|se llama|tiene|vive|trabaja|era)\b")),
    Rule(kind="episodic", pattern=words(rf"{_BEGIN}(?:ayer |hoy |por fin |acabo de |acabamos de )?(?:compré|compramos|terminé|terminamos|me casé|me gradué|visité|visitamos|adopté|me jubilé|firmé|firmamos|lanzamos|desplegamos|migramos|aprobé|reservé|cancelé|vendí|gané|dejé mi trabajo|viajé|viajamos)\b|{_BEGIN}acab(?:o|amos) de (?:comprar|terminar|casar|mudar|lanzar|migrar|desplegar)\w*\b")),
    Rule(kind="project_state", confidence=0.85, pattern=words(rf"{_BEGIN}(?:hemos |he )?(?:decidimos|decidí|decidido|acordamos|acordado|elegimos|elegido|descartamos|descartado)\b|{_BEGIN}(?:nos quedamos con|vamos a usar|usaremos|cambiamos a|la decisión (?:es|fue))\b")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_NO}(?:usamos|utilizamos|desplegamos|alojamos|guardamos|trabajamos (?:con|en)|soportamos|ejecutamos)\b(?! (?:esto|eso)\b)")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_PROJECT} {_NO}(?:usa|utiliza|corre|funciona en|está en|está escrit[oa]|se llama|necesita|requiere|soporta|depende|se despliega|debe)\b")),
    Rule(kind="project_state", subject="project", pattern=words(rf"{_BEGIN}(?:nuestr[oa]|el|la) (?P<subject>fecha (?:límite|de entrega|de lanzamiento)|presupuesto|plazo) (?:es|será|se movió|ha cambiado)\b")),
)  # fmt: skip

SPANISH = Language(
    name="Spanish",
    doubtful=words(
        r"\?\s*[\"')]*$|¿|^(?:(?:y|pero|hola),?\s+)*(?:qué|por qué|cómo|quién|cuál|dónde|cuándo|cuánto|puedes|podrías|debería|sabes|te acuerdas)\b"
        r"|\b(?:supongamos|imagina|imaginemos|por ejemplo|hipotéticamente|y si|sería|tendría|habría|quizás?|tal vez|a lo mejor|me pregunto si|me gustaría)\b|^si (?!t[uú]\b)"
        r"|\b(?:dice|dijo|según|afirma|afirmó|escribe|escribió|cree|piensa|me contó)\b"
    ),
    asked=words(
        r"^(?:(?:por favor|y|también|oye),?\s+)*(?:recuerda|acuérdate(?: de)?|ten en cuenta|no olvides|no te olvides de|anota|toma nota(?: de)?|apunta)\s*(?:que\b|:|,)\s*(?P<fact>\S.{3,})"
    ),
    own=words(r"\b(?:yo|nosotros|mi|mis|nuestr[oa]s?|tengo|tenemos|voy|vamos|viajo|me|nos)\b"),
    at_hand=words(
        r"\b(?:aquí|est[aeo]s?|arriba|abajo|línea \d+|hoy|mañana|ayer|el (?:lunes|martes|miércoles|jueves|viernes|sábado|domingo)|la próxima vez)\b"
    ),
    rules=_rules,
)
