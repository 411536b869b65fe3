"""Chinese, in both scripts: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: as for English; words are not spaced, so a clause
begins at a mark or a conjunction.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

_BEGIN = r"(?:^|[，,；;：:。、（(]\s*|(?:因为|因為|但是|但|而且|所以|另外|对了|對了|其实|其實|不过|不過|顺便说一下|请注意|你好)[，,]?)"
_HOW = r"(?:真的|一直|总是|總是|通常|平时|平時|一般|也|还是|還是|只|现在|現在|目前|都|更|最|非常|很|特别|特別|从来|從來|已经|已經|其实|並|并|就)*"
_I = rf"{_BEGIN}我{_HOW}"
_WE = rf"{_BEGIN}(?:我们|我們|咱们|咱們|团队|團隊){_HOW}"
_RELATIVE = r"(?:妻子|老婆|丈夫|老公|先生|太太|女朋友|男朋友|对象|妈妈|媽媽|爸爸|母亲|母親|父亲|父親|姐姐|妹妹|哥哥|弟弟|儿子|兒子|女儿|女兒|孩子|爷爷|爺爺|奶奶|老板|老闆|上司|同事|狗|猫|貓|车|車|房子|公司|团队|團隊|工作|职业|職業|专业|專業|学校|學校|电脑|電腦|编辑器|編輯器|母语|母語|爱好|愛好|预算|預算)"
_PROJECT = r"(?:(?:我们|我們|我|这个|這個|本)的?(?:项目|項目|專案|仓库|倉庫|代码库|服务|服務|应用|應用|后端|後端|前端|数据库|資料庫|数据庫|网站|網站|集群|流水线|服务器|伺服器|产品|產品|公司|团队|團隊|生产环境|生產環境|测试环境))"

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_BEGIN}(?:我叫|我的名字(?:是|叫)|(?:请|請)?(?:叫|称呼|稱呼)我)(?!什么|什麼)\S")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_I}(?:不)?(?:住在|居住在|定居在|搬到|搬去|搬家到)\S|{_I}家(?:在|住)\S")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_I}(?:不|不再)?(?:在)\S{{1,30}}(?:工作|上班|任职|任職)|{_I}(?:入职|入職|加入)(?:了)?\S")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_I}(?:今年)?[0-9一二三四五六七八九十]{{1,3}}[岁歲]")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"{_BEGIN}我的?生日(?:是|在)|{_I}(?:出生于|出生於|生于|生於)")),
    Rule(kind="semantic", subject="email", pattern=words(rf"{_BEGIN}我的(?:邮箱|郵箱|电子邮件|電子郵件)(?:地址)?是")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_BEGIN}我的(?:手机|手機|电话|電話)(?:号码|號碼|号)?是")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"^(?!.*(?:不要|别|別|永远不|永遠不))(?=.*(?:从现在开始|從現在開始|以后|以後|今后|今後|始终|始終|总是|總是|一律|都|务必|務必))(?:从现在开始|從現在開始|以后|以後|今后|今後|始终|始終|总是|總是|一律|都|务必|務必|请|請|你|要|[，,])*(?:用|使用)(?:中文|英文|英语|英語|德语|德語|法语|法語|西班牙语|西班牙語|日语|日語|日文|韩语|韓語|俄语|俄語)(?:来)?(?:回答|回复|回覆|写|寫|交流)")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:我|我们|我們)的[^，,。是]{{1,12}}(?:都|总是|總是|一律)?(?:以\S{{1,20}}开头|以\S{{1,20}}開頭|以\S{{1,20}}结尾|用\S{{1,20}}(?:写|寫|命名))|{_BEGIN}[^，,。我]{{1,12}}我(?:都|总是|總是|一律)(?:用|写成|寫成|按)\S")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(r"^(?:请|請)?(?:在|每次)?(?:你)?(?:修改|更改|删除|刪除|提交|发布|發布|改动|改動)[^，,？?]{1,30}(?:之前|以前|前)[，,](?:请|請)?(?:都|一定要|先|要先)\S")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"{_BEGIN}我最(?:喜欢|喜歡|爱|愛)的(?P<subject>[^是，,。]{{1,12}})是")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_I}(?:不|不太|不怎么|绝不|絕不)?(?:喜欢|喜歡|偏好|偏爱|偏愛|讨厌|討厭|爱吃|愛吃|爱喝|愛喝|习惯用|習慣用|倾向于|傾向於|热爱|熱愛|吃不了|不吃|不喝|不抽烟|不能吃|不用|从不|從不)(?!这个|這個|它|你的?(?:回答|答案))\S*|{_I}(?:宁愿|寧願|宁可|寧可)\S")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_I}(?:对|對)\S{{1,12}}(?:过敏|過敏)|{_I}(?:不)?是(?:个|個)?(?:素食|纯素|純素|左撇子|色盲)")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(r"^(?:(?:从现在开始|從現在開始|从今以后|從今以後|以后|以後|今后|今後|默认(?:情况下)?|預設)[，,]?(?:都|一律|总是|總是|始终|始終)?(?:请|請|你|用(?!户|戶)|使用|按|不要|别|別|不准|回答|回复|回覆|写|寫|务必|務必|我要|我希望)|(?:请|請|你)(?:从现在开始|從現在開始|从今以后|從今以後|以后|以後|今后|今後|默认|預設)\S)")),
    Rule(kind="preference", confidence=0.85, pattern=words(r"(?:从现在开始|從現在開始|从今以后|從今以後|以后(?:请|都|不要|别|回答)|以後(?:請|都|不要|別|回答)|今后|今後|默认(?:情况下)?(?:请|用|都)|預設(?:請|用|都))")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(r"^(?:(?:请|請)(?:务必|務必|始终|始終|总是|總是|一律|每次都)\S{2,}|你?(?:务必|務必|始终|始終|总是|總是|一律|每次都)(?:要|请|請|先|用(?!户|戶)|使用|按|写成|寫成|回答|回复|回覆|检查|檢查|保持|附上|加上|称呼|稱呼|翻译成|翻譯成)\S|(?:请|請|你)?(?:永远不要|永遠不要|永远别|绝对不要|絕對不要|千万不要|千萬不要|千万别|千萬別)\S{2,})")),
    Rule(kind="preference", confidence=0.8, pattern=words(r"^(?:请|請|你)?(?:务必|務必|始终|始終|总是|總是|一律|永远不要|永遠不要|永远别|绝对不要|絕對不要|千万不要|千萬不要|千万别|千萬別|每次都)\S{2,}")),
    Rule(kind="semantic", pattern=words(rf"{_I}(?:不)?(?:是|会说|會說|来自|來自|开的是|開的是|养了|養了|学的是|學的是|毕业于|畢業於)(?:一[名个個位只隻条條])?(?!说|說|想|不是|要|否|什么|什麼|谁|誰|怎么|指)\S{{1,40}}|{_I}(?:没)?有(?:一|两|兩|二|三|四|五)(?:个|個|只|隻|条|條|辆|輛)(?!问题|問題|疑问|疑問|想法|文件|函数|需求|错误|錯誤|bug|任务|任務)\S|{_I}(?:结婚|結婚|离婚|離婚|退休|怀孕|懷孕)了")),
    Rule(kind="semantic", subject="name of", pattern=words(rf"{_BEGIN}我的?(?P<subject>{_RELATIVE})叫\S")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}我的?(?:{_RELATIVE})(?:是|叫|在|有|住|喜欢|喜歡|今年)\S")),
    Rule(kind="episodic", pattern=words(rf"{_BEGIN}(?:我|我们|我們)(?:刚|剛|刚刚|剛剛|昨天|今天|上周|上週|上个月|上個月|去年|终于|終於|已经|已經)?(?:买了|買了|去了|完成了|毕业了|畢業了|参加了|參加了|领养了|領養了|签了|簽了|发布了|發布了|上线了|上線了|部署了|迁移了|遷移了|通过了|通過了|预订了|預訂了|取消了|卖了|賣了|辞职了|辭職了)\S*")),
    Rule(kind="project_state", confidence=0.85, pattern=words(rf"{_BEGIN}(?:我们|我們|我|团队|團隊)(?:已经|已經|最终|最終|最后|最後)?(?:决定|決定|商定|选定|選定|选择了|選擇了|确定了|確定了|放弃了|放棄了|改用|换成|換成)(?!吗|嗎|是否|要不要)\S")),
    Rule(kind="project_state", pattern=words(rf"{_WE}(?:不|不再)?(?:使用|用的是|采用|採用|部署在|托管在|托管於|支持|支援|运行在|運行在|遵循)\S")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_PROJECT}(?:现在|目前|都|只|必须|不|不再)*(?:使用|用的?是|用|采用|採用|部署在|运行在|運行在|叫|基于|基於|依赖|依賴|支持|需要|在)\S")),
    Rule(kind="project_state", subject="project", pattern=words(rf"{_BEGIN}(?:我们|我們|项目|項目)?的?(?P<subject>截止日期|发布日期|發布日期|上线时间|上線時間|预算|預算)(?:是|为|為|改到|推迟到|延后到)\S")),
)  # fmt: skip

CHINESE = Language(
    name="Chinese",
    doubtful=words(
        r"[?？]\s*[\"'”」)）]*$|(?:吗|嗎|呢|么|麼)[。！!.]?$|^(?:请问|請問|为什么|為什麼|怎么|怎麼|如何|什么|什麼|哪|谁|誰|能不能|能否|可以|是否|是不是|你知道|你记得|你記得)"
        r"|(?:假设|假設|假如|如果我|如果是|要是我|想象一下|想像一下|比如|例如|举个例子|舉個例子|也许|也許|可能|或许|或許|大概|万一|萬一|我在想|不知道是否|我想要|我想请|我想請)"
        r"|(?:他|她|他们|她们|有人|文章|文档|文檔|书上|書上|老师|客户|客戶)(?:说|說|写|寫|认为|認為|告诉|告訴|问|問)|据说|據說|根据|根據"
    ),
    asked=words(
        r"^(?:请|請|麻烦|帮我|幫我|另外|还有|還有|你要)*(?:记住|記住|记得|記得|记一下|記一下|记下来|記下來|别忘了|別忘了|不要忘记|不要忘記|请注意|請注意|备注|備註)(?:一下|了|这一点|這一點)?[，,：:\s]*(?P<fact>\S{3}.*)"
    ),
    own=words(r"我"),
    at_hand=words(r"[这這此]|上面|下面|以上|以下|今天|明天|昨天|刚才|剛才|现在(?!开始|起)|現在(?!開始|起)|下次|这次"),
    rules=_rules,
)
