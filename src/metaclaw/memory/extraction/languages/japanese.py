"""Japanese: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: as for English; the verb comes last, so a sentence
is taken whole.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

_I = r"(?:私|わたし|僕|ぼく|俺|自分)"
_BEGIN = rf"(?:^|[、。,]\s*|(?:ちなみに|実は|でも|だから|それと|あと|なお)[、,]?)(?:{_I}(?:は|も|が)[、]?)?"
_WE = r"(?:私たち|我々|うち|弊社|当社|チーム)"
_MY = rf"(?:{_I}|うち)の"
_PROJECT = rf"(?:(?:{_WE}の|この|当|本)?(?:プロジェクト|リポジトリ|サービス|アプリ|バックエンド|フロントエンド|データベース|サイト|クラスタ|サーバー?|製品|本番環境|ステージング環境))"
_RELATIVE = r"(?:妻|夫|嫁|旦那|彼女|彼氏|母|父|姉|妹|兄|弟|息子|娘|子供|子ども|祖母|祖父|上司|同僚|犬|猫|車|家|会社|チーム|仕事|職業|専攻|大学|パソコン|エディタ|母語|趣味|予算)"

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_MY}名前は\S|{_BEGIN}\S{{1,20}}と(?:申します|呼んでください|いいます)")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_BEGIN}\S{{1,30}}(?:に|で)(?:住んで(?:いま|います|いる|る|いません)|暮らして)|\S{{1,20}}(?:に|へ)引っ越し(?:ました|た)")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_BEGIN}\S{{1,30}}(?:で働いて|に勤めて|に勤務して|に転職し|に入社し)")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_BEGIN}[0-9]{{1,3}}歳(?:です|になり)")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"(?:{_MY})?誕生日は\S|{_BEGIN}\S{{2,20}}生まれです")),
    Rule(kind="semantic", subject="email", pattern=words(rf"(?:{_MY})?メールアドレスは\S")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_MY}電話番号は\S")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"(?=.*(?:今後|これから|必ず|常に|いつも|毎回)).*(?:日本語|英語|ドイツ語|フランス語|スペイン語|中国語|韓国語)で(?:答え|返答|回答|返信|書い|話し)\S{0,6}?(?:ください|下さい|お願いします|て|てね)[。！!]*$")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_MY}[^、。は]{{1,15}}は(?:必ず|いつも|常に)?[^、。？]{{1,30}}(?:で始まります|で始まる|で始める|で終わります|で書きます|で書く|という名前にします)")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(r"^(?:\S{1,30})を(?:変更|編集|修正|削除|更新|コミット)する(?:前|まえ)(?:に|には)(?:は)?[、,]?(?:必ず|まず|先に)\S")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"(?:{_MY})?(?:一番)?(?:好きな|お気に入りの)(?P<subject>[^は、。]{{1,12}})は\S")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_BEGIN}\S{{1,60}}(?:が|の方が|のほうが|は)(?:大?好き|好み|嫌い|大嫌い|苦手|好きではありません|好きじゃない)|\S{{1,40}}(?:アレルギー(?:です|があり|がある|なので)|[はを]食べ(?:ません|られません|ない|られない)|[はを]飲み(?:ません|ない))|{_BEGIN}(?:ベジタリアン|ヴィーガン|菜食主義者|左利き)です")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(r"(?:今後は|今後も|これからは|これから(?:も)?ずっと|デフォルトで)\S*(?:ください|下さい|お願いします|しないで(?:ね)?|して(?:ね)?|すること|使って(?:ね)?|答えて(?:ね)?|書いて(?:ね)?)[。！!]*$|(?:必ず|常に|いつも|毎回|絶対に|決して)\S{1,60}(?:ください|しないで|すること|して(?:ね)?。?$|下さい)")),
    Rule(kind="preference", confidence=0.85, pattern=words(r"(?:今後は|これからは|これから(?:も)?ずっと|今後(?:も)?|デフォルトで)\S")),
    Rule(kind="semantic", pattern=words(rf"{_I}は\S{{1,40}}(?:です|ではありません|じゃないです|出身です|を飼っています|を話します|を勉強しています|をしています)|{_BEGIN}\S{{1,20}}(?:を飼って(?:い)?ます|出身です)|{_BEGIN}(?:結婚|離婚|退職|妊娠)(?:してい|し)(?:ます|ました)")),
    Rule(kind="semantic", subject="name of", pattern=words(rf"{_MY}(?P<subject>{_RELATIVE})の名前は\S")),
    Rule(kind="semantic", pattern=words(rf"{_MY}{_RELATIVE}は\S")),
    Rule(kind="episodic", pattern=words(rf"{_BEGIN}\S{{0,60}}(?:を買いました|に行きました|を終えました|を卒業しました|に参加しました|を公開しました|をリリースしました|をデプロイしました|に合格しました|を予約しました|をキャンセルしました|を辞めました)")),
    Rule(kind="project_state", confidence=0.85, pattern=words(r"\S{1,60}(?:(?:こと)?に決めました|ことにしました|に決定しました|で合意しました|を採用しました|に決まりました)")),
    Rule(kind="project_state", pattern=words(rf"(?:{_WE}(?:は|では)|{_PROJECT}(?:は|では))\S{{1,60}}(?:を使って|を使用して|を利用して|を採用して|で動いて|で書かれて|にデプロイ|にホスト|に依存し|です|を使いません|は使いません)")),
    Rule(kind="project_state", subject="project", pattern=words(r"(?P<subject>締め切り|締切|リリース日|納期|予算)は\S")),
)  # fmt: skip

JAPANESE = Language(
    name="Japanese",
    doubtful=words(
        r"[?？]\s*[\"'」』)）]*$|(?:ですか|ますか|でしょうか|ませんか|かな|の)[。！!]?$|^(?:なぜ|どうして|どう(?:やって|すれば)|何|誰|どこ|いつ|どれ|どの)"
        r"|(?:もし|仮に|例えば|たとえば|と仮定|としたら|かもしれ|たぶん|多分|おそらく|だろう|でしょう)"
        r"|(?:彼|彼女|彼ら|先生|上司|記事|文書|ドキュメント)(?:は|が|に)\S{0,40}(?:と言|と書|と述べ|によると|らしい)|によると|そうです[。]?$|(?:したい|ほしい|欲しい)(?:です|のですが)?[。]?$"
    ),
    asked=words(
        r"^(?P<fact>\S{3}.*?)(?:こと|の|と)?を?(?:覚えておいて|覚えといて|記憶して|メモして|忘れないで)(?:おいて)?(?:ください|下さい|ね)?[。！]?$|^(?:次のことを)?(?:覚えておいて|覚えて|メモして|忘れないで)(?:ください|下さい)?[：:、。]\s*(?P<fact2>\S{3}.*)"
    ),
    own=words(r"(?:私|僕|俺|うち|自分|弊社|当社)"),
    at_hand=words(r"この|これ(?!から)|ここ|上記|以下|下記|今日|明日|昨日|今回|今すぐ|さっき|次回"),
    rules=_rules,
)
