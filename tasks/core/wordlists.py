"""Words that tell something about how a sentence works, by language.

English lists follow the signals that were measured against audience reactions; Indonesian
ones are their counterparts in spoken Indonesian. A language that is not here has none, and
whoever uses the lists says so.
"""

from dataclasses import dataclass


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(","))


NEVER_LAST = _set("mr mrs ms dr prof st gen col sgt capt lt rev hon sr sra mme mlle vs bpk sdr dra drs hj tn ny mt")
"""A point after one of these abbreviations never ends a sentence."""
LAST_BEFORE_CAPITAL = _set("etc inc ltd co corp jr bros dll dst dsb usw bzw ph.d")
"""A point after one of these, or after initials, ends a sentence only when a capital follows."""
BEFORE_NUMBER = _set("no nr vol fig ca jl")
"""A point after one of these ends a sentence unless a number follows."""


@dataclass(frozen=True)
class WordLists:
    """One language's words, lower case, without punctuation; phrases are whole words in order.

    `stop`: function words, useless as a topic and as the end of a title. `openers` and
    `opening_phrases` say little at the start of a sentence and may be cut from a title.
    `conjunctions` start a clause that leans on the one before; `backward` are pronouns that
    point back. `finite`: verb forms that make a group of words a statement. `links`:
    prepositions and conjunctions, a weak start of a title. `story`: phrases that begin a
    story. `promotion`: those of sponsors, greetings and thanks.
    """

    stop: frozenset[str]
    first_person: frozenset[str]
    second_person: frozenset[str]
    said: frozenset[str]
    discourse: frozenset[str]
    openers: frozenset[str]
    opening_phrases: tuple[str, ...]
    question: frozenset[str]
    positive: frozenset[str]
    contrast: frozenset[str]
    claim: frozenset[str]
    conjunctions: frozenset[str]
    backward: frozenset[str]
    finite: frozenset[str]
    links: frozenset[str]
    number_words: frozenset[str]
    claim_phrases: tuple[str, ...]
    story: tuple[str, ...]
    promotion: tuple[str, ...]


ENGLISH = WordLists(
    stop=_set(
        "a about above after again against all also am an and any are aren't as at be because been before "
        "being below between both but by can can't could couldn't did didn't do does doesn't doing don't down "
        "during each even ever few for from further get gets getting go goes going gonna got had has have "
        "having he he'd he'll he's her here hers herself him himself his how i i'd i'll i'm i've if in into "
        "is isn't it it'd it'll it's its itself just kind know let let's like lot made make makes many may me "
        "might more most much must my myself no nor not now of off oh okay on once one only onto or other our "
        "ours ourselves out over own quite rather really right said same say says see she she'd she'll she's "
        "should shouldn't so some something sort still such than that that's the their theirs them themselves "
        "then there there's these they they'd they'll they're they've thing things this those though through "
        "to too um uh under until up upon us very was wasn't way we we'd we'll we're we've well were weren't "
        "what what's when where whether which while who whom whose why will with within without won't would "
        "wouldn't yeah yes you you'd you'll you're you've your yours yourself yourselves"
    ),
    first_person=_set("i i'm i've i'd i'll me my mine myself we we're we've we'd we'll us our ours ourselves"),
    second_person=_set("you you're you've you'd you'll your yours yourself yourselves"),
    said=_set("said says say saying asked ask asks told tell tells replied answered shouted yelled whispered goes"),
    discourse=_set(
        "well okay ok oh so actually now yeah yes no um uh right anyway basically literally honestly alright"
    ),
    openers=_set(
        "well okay ok oh so actually now yeah yes um uh er ah hmm right anyway basically literally "
        "honestly alright and but or because then also see look listen like just plus again hey please "
        "frankly clearly obviously finally first second secondly third thirdly"
    ),
    opening_phrases=_phrases("first of all, second of all, most of all, by the way"),
    question=_set("what why how who when where which whose whom"),
    positive=_set(
        "love loved loves great good best better amazing wonderful beautiful happy happiness joy fun funny "
        "laugh laughed laughing smile smiled hope win won winner perfect brilliant excellent incredible "
        "awesome fantastic favorite favourite nice glad proud thank thanks delight delighted excited exciting "
        "enjoy enjoyed success successful magic magical free freedom gift lucky friend friends kind grateful "
        "easy cool sweet"
    ),
    contrast=_set("but however instead although yet except unless actually despite turns rather nobody"),
    claim=_set(
        "never always nobody everybody everyone nothing everything only most best worst biggest smallest "
        "greatest secret truth mistake lesson reason because must impossible wrong key first every single "
        "fastest hardest easiest important surprising surprisingly changed changes stop myth fact cannot "
        "can't don't won't isn't wasn't fundamental proof proved learned realized realised discovered"
    ),
    conjunctions=_set("and but or so because then also plus nor yet which that than as though although while whereas"),
    backward=_set(
        "hers theirs it it's its he he's she she's they they're them him her this that that's these "
        "those there such his their"
    ),
    finite=_set(
        "is isn't are aren't was wasn't were weren't am be have haven't has hasn't had hadn't do don't does "
        "doesn't did didn't can can't could couldn't will won't would wouldn't should shouldn't must may "
        "might shall it's that's there's what's i'm i've i'd i'll we're we've we'd we'll you're you've you'd "
        "you'll they're they've they'd they'll he's he'd he'll she's she'd she'll let's cannot need needs "
        "want wants make makes made take takes took get gets got go goes went know knows knew think thinks "
        "thought say says said see sees saw come comes came give gives gave find finds found tell tells told "
        "ask asks asked feel feels felt keep keeps kept work works worked mean means meant start starts "
        "started stop stops stopped change changes changed learn learns learned become becomes became build "
        "builds built write writes wrote matter matters happen happens happened use uses used run runs ran "
        "lose loses lost win wins won fail fails failed believe believes love loves hate hates call calls "
        "called turn turns turned put puts leave leaves left kill kills cost costs live lives die dies died "
        "beat beats read reads grow grows grew break breaks broke buy buys bought sell sells sold spend "
        "spends spent pay pays paid hit hits show shows showed hear hears heard hold holds held"
    ),
    links=_set(
        "including and but or so because that which who when where while if unless until after before with without "
        "about for from into in on at by than like as since although though whether to through of"
    ),
    number_words=_set(
        "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy "
        "eighty ninety hundred hundreds thousand thousands million millions billion billions percent dozen"
    ),
    claim_phrases=_phrases(
        "the reason, the truth, the secret, the problem, the point, the trick, the best, the worst, the only, "
        "the first, the biggest, the most, the question, the answer, the lesson, the difference, here's what, "
        "here's why, here's how, what if, it turns out, turns out, the moment, i realized, i realised, "
        "i learned, i was wrong, you have to, you need to, you should, you don't, you can't, don't ever, "
        "not because, nobody tells, no one tells, most people, people think, that's when, that's why, "
        "this is why, this is how, in other words, imagine, remember this"
    ),
    story=_phrases(
        "let me tell you, i want to tell you, i'll never forget, i will never forget, one day, one night, one morning, "
        "there was a, when i was, years ago, the first time, picture this, true story, you won't believe"
    ),
    promotion=_phrases(
        "sponsored by, sponsor of, today's sponsor, our sponsor, this video is brought, brought to you by, "
        "promo code, discount code, use code, use the code, link in the description, link below, links below, "
        "in the description below, subscribe to, hit subscribe, subscribe button, like and subscribe, "
        "hit the bell, notification bell, free trial, percent off, sign up at, head over to, patreon, "
        "check out our, thanks for watching, before we begin, let me introduce, please welcome, housekeeping, "
        "any questions, thank you for, thank you very much, thanks for, can you hear me, welcome back to, "
        "welcome to, the slides, moving on, next slide, we will continue, my name is"
    ),
)

INDONESIAN = WordLists(
    stop=_set(
        "ada adalah agar akan aku anda antara apa apakah atas atau bagaimana bagi bahwa banyak begitu belum "
        "benar berapa bisa boleh buat bukan cuma dalam dan dapat dari daripada dengan depan di dia dong dulu "
        "engkau gak ga gue gua gimana hal hanya harus ia ini itu iya jadi jangan juga kalau kalo kalian kami "
        "kamu kan karena kata kayak ke kemudian kenapa kepada ketika kita kok lagi lah lain lalu lebih loh lu "
        "maka malah mana masih mau mereka mungkin nah namun nanti ngga nggak nih nya oh oke oleh orang pada "
        "paling para pas pernah pun punya saat saja sama sambil sampai sangat saya se sebagai sebelum sebuah "
        "secara sedang sehingga sekali sekarang selama semua seorang seperti sering serta sesuatu setelah "
        "setiap si siapa sih suatu sudah supaya tadi tapi telah tentang terhadap terus tersebut tetap tetapi "
        "tidak toh tuh udah untuk waktu walaupun ya yaitu yakni yang yah banget aja"
    ),
    first_person=_set("aku saya gue gua kami kita ku daku"),
    second_person=_set("kamu anda kalian lu lo elu engkau kau mu"),
    said=_set(
        "kata bilang berkata tanya bertanya jawab menjawab ngomong cerita teriak ujar katanya bilangnya tanyanya"
    ),
    discourse=_set(
        "nah oke ok oh ya yah jadi sebenarnya sebenernya sekarang iya nggak enggak eh kan sih dong lho loh pokoknya"
    ),
    openers=_set(
        "nah oke ok oh ya yah jadi sebenarnya sebenernya sekarang iya eh em dan tapi tetapi atau karena terus "
        "lalu kemudian pokoknya pertama kedua ketiga terakhir coba lihat dengar nih tuh kan gini "
        "begini"
    ),
    opening_phrases=_phrases("pertama tama, pertama-tama, omong omong, omong-omong"),
    question=_set("apa apakah mengapa kenapa bagaimana gimana siapa kapan mana berapa"),
    positive=_set(
        "suka cinta sayang senang bahagia hebat bagus baik terbaik indah keren tertawa ketawa lucu senyum "
        "harapan menang sukses berhasil bangga syukur bersyukur mudah gratis bebas kagum seru asyik asik "
        "cantik mantap sempurna teman sahabat untung beruntung"
    ),
    contrast=_set("tapi tetapi namun padahal malah justru sebaliknya meskipun walaupun kecuali ternyata bukan"),
    claim=_set(
        "selalu semua setiap hanya cuma paling terbaik terburuk terbesar terkecil rahasia kebenaran kesalahan "
        "pelajaran alasan harus mustahil salah kunci pertama penting ternyata berubah mengubah berhenti mitos "
        "fakta jangan bukti belajar sadar nggak tidak bukan"
    ),
    conjunctions=_set(
        "dan tapi tetapi atau karena terus lalu kemudian sehingga yang namun serta maka juga agar supaya"
    ),
    backward=_set("itu ini dia ia mereka tersebut begitu begini nya situ sana"),
    finite=_set(
        "adalah ada bukan tidak nggak enggak gak ga bisa akan harus mau sudah udah belum pernah jangan boleh "
        "dapat sedang telah masih punya jadi menjadi tahu tau ingin perlu mulai belajar berhenti berubah "
        "kehilangan menang kalah gagal berhasil membuat bikin bilang pikir merasa percaya kerja bekerja makan "
        "pergi datang pulang"
    ),
    links=_set(
        "dan tapi tetapi atau karena yang ketika kalau kalo jika saat sebelum setelah sesudah dengan tanpa "
        "tentang untuk dari ke di pada dalam oleh seperti sejak supaya agar sampai bahwa"
    ),
    number_words=_set(
        "dua tiga empat lima enam tujuh delapan sembilan sepuluh sebelas belas puluh seratus ratus ribu "
        "seribu juta miliar persen lusin"
    ),
    claim_phrases=_phrases(
        "alasannya, sebenarnya, rahasianya, masalahnya, intinya, kuncinya, yang paling, yang terbaik, "
        "satu-satunya, pertanyaannya, jawabannya, pelajarannya, bedanya, ternyata, aku sadar, saya sadar, "
        "saya belajar, aku belajar, kamu harus, kalian harus, anda harus, kita harus, jangan pernah, "
        "kebanyakan orang, banyak orang, itu sebabnya, makanya, bayangkan, coba bayangkan, ingat"
    ),
    story=_phrases(
        "saya mau cerita, aku mau cerita, gue mau cerita, suatu hari, suatu malam, waktu saya, waktu aku, waktu umur, "
        "dulu saya, dulu aku, tahun lalu, pertama kali, saya nggak akan lupa, percaya nggak"
    ),
    promotion=_phrases(
        "disponsori, sponsor, kode promo, kode diskon, pakai kode, gunakan kode, link di deskripsi, "
        "di kolom deskripsi, subscribe, tombol lonceng, like dan, jangan lupa like, gratis ongkir, "
        "terima kasih sudah, terima kasih atas, kita sambut, selamat pagi, selamat siang, selamat datang, "
        "ada pertanyaan, susunan acara, selanjutnya mengenai, demikian, nama saya"
    ),
)

_BY_LANGUAGE = {"en": ENGLISH, "id": INDONESIAN}


def word_lists(language: str) -> WordLists | None:
    """Lists of a language by its Whisper code; None where there are none."""
    return _BY_LANGUAGE.get(language.casefold().split("-")[0])
