"""The commonest small words of each language that shares its script with others.

A short answer holds few letter sequences but nearly always an article, a pronoun or a particle,
so these words decide where n-grams hesitate ("Il dort sur la table." against Spanish).
Knows nothing of scores: `identification.py` says how much one word weighs.
Words are cut at apostrophes ("l'eau" is "l" and "eau").
A word may stand in several rows; it then speaks for all of them.
"""

_ROWS = """
cs|a v na je se to že s z do o i jsem jste jsou není ale jak co by pro jeho který ve ke ten ta kde mám ano velmi
da|og i at det er en til på som med for der den ikke et har jeg du vi kan var han hun af fra de hvad hvor meget ja nej også
de|der die das und ist nicht ein eine ich du sie er es wir in den zu mit auf für von dem auch sich sind im wie aber oder wo was haben hat kann ja nein sehr mein dein heute
en|the and is are was of to in it i you that this with for on not a my we they he she his her at be have has do does can will there what where how who very your from but or its don s t
es|el la los las de y en es un una que no por con para se está están lo su muy pero al del mi tu yo sí como hay son fue qué dónde cuándo me te le también hoy soy tiene
fr|le la les de et est un une des que qui ne pas dans pour sur avec il elle je tu nous vous ce cette au aux du en son sa mon ton ses très mais ou où sont suis oui non comment c l d j n qu s y a ai plus aujourd'hui
id|yang dan di ini itu tidak dengan untuk dari adalah saya kamu anda kami kita ada akan bisa pada ke dia mereka juga sangat apa siapa dimana mana bagaimana sedang sudah belum ya karena atau seorang sebuah hari nya suka lebih bukan tapi
it|il lo la i gli le di e è un una che non per con sono si in da del della al alla nel nella mi ti ci ma anche come molto più questo questa l un dell all ho hai ha sì dove cosa oggi sul sulla suo mio
mt|il u li ta ma fil hu hija minn għal biex jien int huma kif fejn din dan iva le tal fuq
nl|de het een en is van ik je niet dat in op met te zijn voor er aan ook als maar of hij zij ze we was heeft heb bij naar wat waar hoe om dit deze mijn jouw zeer ja nee wel
no|og i at det er en til på som med for den ikke et har jeg du vi kan var han hun av fra de hva hvor veldig ja nei også å seg
pl|i w na z jest nie się to że do jak ale co o za od po dla są mam jestem czy ten ta już bardzo tak gdzie który przez jego jej ma
pt|o a os as de e em é um uma que não por com para se está estão no na do da dos das mais muito mas ao eu você ele ela meu sua seu sim também como são onde isso ser tem foi minha hoje às
ro|și în de la este un o nu cu pe care să că din mai sunt ce pentru se am ai are a al ale eu tu el ea da foarte unde dar cum lui
ru|и в не на я что он она с как это по но мы вы они у из за так же для от его её мне меня есть был была очень где да нет тоже или
sk|a v na je sa to že s z do o i som ste sú nie ale ako čo by pre jeho ktorý vo ku ten tá kde mám áno veľmi
sv|och i att det är en till på som med för den inte ett har jag du vi kan var han hon av från de vad mycket ja nej också sig
sw|na ya wa ni kwa katika za la si hii hiyo yake yangu sana lakini kama mimi wewe yeye sisi wao ndiyo hapana leo nini wapi au pia ana kuna hapa
tr|ve bir bu da de ne için çok ile var yok mi mı ben sen o biz siz daha gibi ama değil evet hayır şu her olarak kadar sonra bugün nerede nasıl benim
uk|і в не на я що він вона з як це по але ми ви вони у із за так для від його її мені мене є був була дуже де ні теж або та й
vi|là và của có không tôi bạn được một những các trong cho với này đó ở người rất thì cũng đã đang sẽ anh em nó ra vào đi như ai gì đâu nào con cái chúng mình vâng trên để khi về
ar|في من على إلى أن هذا هذه هو هي لا ما مع كان كانت عن التي الذي أنا أنت نحن نعم ليس جدا كيف أين ماذا هل ذلك
fa|در از به که را این آن است با و برای من تو ما شما او نیست بود هست خیلی چه کجا چطور بله نه یک هم می
"""  # noqa: E501 - one row a language

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in (row.split("|") for row in _ROWS.strip().splitlines())
}
