"""Words by their kind: which may be verbs, which are adjectives, and which only look like one."""

from __future__ import annotations

from enum import Enum


class Form(Enum):
    """A form of a verb."""

    PLAIN = "hold"
    THIRD = "holds"
    PAST = "held"
    ING = "holding"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _set(
    "red yellow green blue purple violet pink brown black white gray grey golden gold silver "
    "turquoise cyan magenta beige crimson teal navy maroon olive orange lavender tan cream "
    "ivory scarlet amber bronze copper charcoal indigo khaki lime mauve peach rust burgundy "
    "multicolored multicoloured"
)
# What things are made of or feel like. Many are nouns too: "a stone", "a brick wall".
TEXTURES = _set(
    "wooden metal metallic plastic leather fabric rubber glass stone brick marble concrete tile "
    "tiled oak pine cobblestone granite bamboo ceramic porcelain velvet silk satin cotton wool "
    "woolen woollen woolly linen paper cardboard steel iron brass tin gravel striped spotted "
    "dotted checkered chequered plaid patterned carpeted paved polished fluffy smooth rough "
    "soft hard shiny rusty bumpy jagged glossy matte fuzzy furry sticky slimy rocky sandy "
    "grassy mossy dusty muddy snowy icy frozen cracked textured rugged lumpy prickly spiky "
    "feathery crystal wicker"
)
ADJECTIVES = COLOURS.difference(
    _set("orange lime peach olive rust bronze copper charcoal cream")
) | _set(
    # size and shape
    "big large huge small little tiny tall short long wide young old new giant gigantic "
    "enormous massive miniature narrow broad deep shallow thin thick slim slender fat plump "
    "round rounded oval circular rectangular triangular spherical cylindrical conical pyramidal "
    "hexagonal octagonal pentagonal oblong square curved curly wavy straight pointed pointy "
    "flat steep crooked bent angular cubic curvy low high vast bulky compact "
    # feel and matter
    "wooden metal metallic plastic leather fabric rubber striped spotted dotted checkered tiled "
    "carpeted soft smooth rough hard hot cold cool warm wet dry damp moist clean dirty heavy "
    "light sharp blunt crisp crunchy crispy creamy juicy ripe fresh rotten stale sticky slimy "
    "slippery greasy oily silky satiny woolly woolen woollen fluffy fuzzy furry hairy feathery "
    "bumpy lumpy jagged spiky prickly thorny rocky sandy grassy mossy muddy dusty snowy icy "
    "frosty frozen rusty shiny glossy matte glittery sparkly transparent translucent opaque "
    "clear cloudy foggy misty sunny rainy stormy windy bright dark dim pale vivid vibrant dull "
    "deep colorful colourful flickering glowing gleaming shimmering sparkling textured rugged "
    "sturdy solid hollow fragile delicate coarse grainy fine tender chewy bitter sweet sour "
    "salty spicy tart fragrant savory tasty delicious murky calm choppy "
    # age, state and worth
    "modern vintage antique ancient medieval futuristic retro traditional classic rustic "
    "historic worn torn broken cracked bare empty full open closed half-open crowded busy quiet "
    "loud noisy silent lively sleepy lazy tired hungry wild tame domestic fierce gentle "
    "graceful elegant sleek fancy plain simple ornate intricate lush dense sparse fallen sunken "
    "lone lonely single double identical similar different various numerous many more several "
    "other beautiful pretty lovely cute adorable handsome ugly happy sad angry cheerful "
    "friendly funny silly scary spooky cozy cosy comfortable tropical urban rural majestic "
    "magnificent magical mystical mysterious serene peaceful tranquil abandoned deserted ruined "
    "famous royal rich poor cheap expensive luxurious grand bald blonde blond elderly left-handed "
    "good bad great nice perfect strange odd weird unusual typical ordinary common rare "
    "real fake wrinkled ready able alone asleep awake alive dead upright sideways upside-down "
    "iridescent ethereal picturesque scenic billowy tangy bold aerodynamic handwoven pungent "
    "expressive earthy quaint velvety steamy plush wispy complex gnarled gritty fiery "
    "streamlined gooey pillowy romantic dynamic dramatic geometric organic symmetrical "
    "fluorescent neon nearby ripening leafy shady bushy frilly ornamental decorative electric "
    "digital festive exotic petite stout sparkling bright-eyed gilded mighty noble humble sly "
    "clever wise brave curious playful mischievous timid shy swift slow fast rapid speedy "
    "nimble agile clumsy sunlit moonlit powdery soapy foamy bubbly glassy chilly balmy harsh "
    "stark bleak gloomy murky grim soggy feeble frail hefty roomy spacious eager keen glad "
)
ADJECTIVE_ENDINGS = (
    "ous",
    "ful",
    "less",
    "ish",
    "like",
    "-colored",
    "-coloured",
    "-shaped",
    "-sized",
)
NOT_ADJECTIVES = _set(
    "fish jellyfish goldfish starfish swordfish catfish dish radish polish handful mouthful "
    "armful spoonful bus octopus platypus walrus hibiscus cactus citrus"
)

# Verbs of pictures, in their plain form. Irregular pasts stand below.
VERBS = _set(
    "accompany act add adjust adorn admire aim appear approach argue arrange arrive ask "
    "assemble assist attach attack attend await bake balance bark bathe battle become begin "
    "bend bite blend bloom blossom boil borrow bounce bow brave break brew brighten bring "
    "browse brush build bump burn burst bury buy buzz call capture caress carry carve catch "
    "celebrate chase chat check cheer chew chirp choose chop circle clasp claw clean clear "
    "climb cling clog clutch collect color colour come communicate compare compete complement "
    "compose conduct contain contrast converse cook cool cover cradle crash crawl create creep "
    "cross crouch cruise crumble crush cry cuddle curl cushion cut dance dangle dart decorate "
    "deliver depict describe design devour dig dine dip direct discover discuss display dive "
    "drag drape draw drift drink drip drive drop dry eat embrace emerge emit encase enclose "
    "encircle enjoy enter envelop escape examine exchange exit explain explore extend face fall "
    "feature feed feel fetch fight fill film filter find fix flap flash flicker float flow "
    "flutter fly fold follow form frame frolic gallop gather gaze get give glance glare gleam "
    "glide glimmer glint glisten glitter glow go grab graze greet grill grin grip groom grow "
    "growl guard guide hand hang harvest have hear heat help herd hide highlight hike hit hold "
    "hop host hover hug hunt hurry illuminate inhabit insert inspect instruct iron jog join "
    "juggle jump keep kick kiss knead kneel knit knock laugh launch lay lead lean leap leave "
    "lend lick lie lift light line linger listen live load look loom lounge lower maintain make "
    "march mark match meet melt mend milk mix mold mop mount move mow munch nap nestle nibble "
    "notice nurse nuzzle observe occupy offer open operate organize overflow overhang overlook "
    "overtake pack paddle paint park pass pat patrol peck pedal peek peel peer perch perform "
    "pet photograph pick pierce pile pilot place plant play plow plunge point poke polish pose "
    "pour practice praise preach prepare present press print prop protect protrude prowl pull "
    "push put race raise reach read receive recite recline reflect rehearse relax release "
    "remove repair repel resemble rescue rest retrieve return reveal ride ring rinse rise roam "
    "roar roast roll row rub ruffle run rush sail salute savor scamper scatter scoop scrape "
    "scratch scream scrub search season see seek sell send separate serve set sew shake share "
    "sharpen shear shelter shield shimmer shine ship shoot shop shout shovel show shower sign "
    "simmer sing sink sip sit sizzle skate sketch ski skip slash sleep slice slide slip slither "
    "smell smile smoke snap snarl snatch sniff snooze snore snuggle soak soar socialize spar "
    "sparkle speak speed spell spend spill spin splash spread spray sprint sprout squat squawk "
    "squeeze squint stack stain stand stare start stay steal steam steer step stick sting stir "
    "stomp stop store strain stretch stride stroke stroll strum study stumble supply support "
    "surf surround suspend sway sweep swim swing swirl swoop take talk tap taste teach tear "
    "tell tend tether throw tickle tie tilt tip toss touch tour tow tower trail train transport "
    "travel tread trek trim trot try tuck tug tumble turn twirl twist type unload unlock use "
    "vacuum visit wade wag wait wake walk wander warm wash watch water wave wear weave weigh "
    "weld whisk whisper whistle wield wind wink wipe wish wonder work wrap wrestle write yawn "
    "yell zoom accent anchor arch bask bind block brace brandish breathe brim bubble butter "
    "calm caper carpet cascade charge clip comfort comb confront connect consume converge coil "
    "cocoon count crack crown cultivate curve dazzle deflect depart deposit descend differ dim "
    "disappear dissolve dominate doze drench dribble droop dust echo encounter engrave enhance "
    "evoke expand expose fade fasten fence flank flatten flip flourish freeze fry fuel garnish "
    "glaze govern grasp grate grind groan gush halt hammer handle haul heal hiss hum ignite "
    "imitate invade invite jingle jut kindle lap lash latch layer lug lure lurk manage mimic "
    "mirror moan mourn nest nod nourish nudge obscure oppose orbit outshine outline overshadow "
    "own parade partake peep penetrate pinch pluck pop pounce pray prick probe produce proclaim "
    "promise propel provide puff pump punch purr quack quench radiate rattle refill remain "
    "repaint replace restore revolve rig ripple rotate rustle saddle scale scan scold score "
    "screech seal seat shade shatter shed shift shiver shred shuffle shut signal silence skid "
    "skim sling slouch smash snack soothe span spark spew splatter split sport sprawl sprinkle "
    "squeak squeal squirt stalk stamp startle stitch straddle strap strike string strip "
    "struggle strut submerge sun surprise swallow swap swat switch tackle taper tease tempt "
    "thaw thrive thrust tick tighten top trace trap trickle trip trumpet tune untie vanish "
    "vibrate wail warn waltz waft weep welcome wiggle wilt wobble worship wrangle yank zip say "
    "state gain grant symbolize magnify snowboard chug meow bleat absorb accentuate"
)
IRREGULAR_PASTS = _set(
    "became began bent bit bitten blew blown bought broke brought built burnt came caught chose "
    "clung crept cut dealt did done dove drank drew drove dug fed fell felt flew flown fled "
    "flung fought found forgot froze gave given got gone grew had heard held hid hung hit kept "
    "knelt knew laid lain leant leapt led left lent lay lit lost made meant met put ran rang "
    "read rode rose said sang sank sat saw sent set shone shook shot shown shrank shut slept "
    "slid slung sold spent spoke spread sprang spun stole stood stuck stung strode struck swam "
    "swept swung taken taught thought threw told took tore went wept wore woke won wove wrote "
    "written burst sped strung sewn woven seen eaten drawn driven thrown worn torn bound ground "
    "wound dreamt spilt spoilt sought overtook overhung withstood"
)
# Verbs whose plain form and -s form are names of things as often: told apart by what stands around
# them.
ALSO_NOUNS = _set(
    "act attack aim bark bathe battle bite bloom blossom boil bow branch break brush bump burn "
    "buzz call capture carpet catch chat check cheer circle claw clip color colour comb cook "
    "cover crack crash cross crown cruise crush cry cup curl curve cushion cut dance dart "
    "design dip direct display dive draw drape drift drink drip drive drop dust face fall "
    "feature feed fence fight fill film filter fix flap flash float flow fly fold form frame "
    "gaze glare glass glaze gleam glow grate grill grip groom guard guide hammer hand handle "
    "harvest heat help herd hike hit hop host hug hunt iron jump kick kiss knit knock lap laugh "
    "launch layer lead leap leave light line load look lounge march mark match melt milk mirror "
    "mix mold mop mount move nap nest nurse offer outline own pack paddle paint parade park "
    "pass pat patrol pedal peel peer perch pet photograph pick pile pilot place plant play plow "
    "point poke polish pop pose practice present press print prop puff pump punch race rattle "
    "reach repair rescue rest return ride rig ring rinse rise roast roll row rub run rush "
    "saddle sail salute scale scan scoop score scratch scream seal search season seat set shade "
    "shake share shed shelter shield shift ship shop shot shout shovel show shower sign signal "
    "silence sink ski skate sketch skip slash sleep slice slide sling slip smell smile smoke "
    "snack snap sound span spark sparkle speed spell spin splash split sport spray spread "
    "sprint sprout square stack stain stalk stamp stand star start state stay steam step stick "
    "sting stitch stop store strain strap stretch stride string strip stroke stroll study sun "
    "support surf surprise swallow sweep swing swirl switch tap taste tear tie tilt tip top "
    "toss touch tour tow tower trace trail train trap travel tread trek trim trip trumpet tug "
    "tune turn twist type use vacuum visit wag wait walk wash watch water wave wear weave whisk "
    "whisper whistle wind wink wish wonder work wrap yawn zip warm cool clean clear dry open "
    "calm dim bear bat duck saw left ground wound lit worn torn broken bound bit read burst "
    "comfort charge count bubble kite sprinkle stripe ripple echo nod button butter flower "
    "fruit block anchor arch brace supply"
)
# Of these the -s form behind a noun is a verb all the same: "a boat floats on the lake".
STRONG = _set(
    "rest stand walk run jump float fall rise wait hop leap look move stop stay glow gleam "
    "drift roll fly play sleep sail perch grow dance crawl swing gaze stare smile"
)
MODALS = _set("can could will would may might must shall should do does did has have had")
# "a watering can" is a thing, "the dog can catch" is not.
KINDS_OF_CAN = _set(
    "watering soda trash garbage tin beer oil paint spray aluminum aluminium metal milk food "
    "coffee gas"
)

# Who acts: behind these a word that may be a verb is one.
AGENTS = _set(
    "man woman boy girl child kid baby toddler person guy lady men women children kids people "
    "player couple dog cat bird horse cow sheep elephant bear zebra giraffe monkey rabbit fox "
    "wolf lion tiger mouse pig goat duck chicken frog bee butterfly squirrel panda penguin "
    "dolphin deer kitten puppy chef nurse robot knight king queen princess prince wizard witch "
    "clown farmer student athlete police policeman soldier tourist mechanic"
)
AGENT_ENDINGS = (
    "ner",
    "ter",
    "der",
    "cher",
    "rmer",
    "cker",
    "ler",
    "yer",
    "ist",
    "man",
    "woman",
    "cian",
)
NO_AGENTS = _set(
    "water paper butter letter winter glitter poster center filter plaster meter counter "
    "computer lighter litter otter banner corner dinner container liner ladder powder cinder "
    "shoulder border cider spider rocker locker sticker pepper ruler cooler tumbler boiler "
    "trailer roller layer prayer can van pan human ottoman talisman theater platter shutter "
    "scooter helicopter oyster lobster blister cluster roaster toaster coaster folder holder "
    "fender blender lantern"
)
# What things are covered or lined with: "a snow covered roof", "a tree lined street".
COVERERS = _set(
    "snow ice tree moss gold silver chocolate sun flower rain dust candle glass stone hand home "
    "fruit cheese wood wine leaf ivy grass fog mist star moon palm jewel sugar mud paint fur "
    "half well oil wind salt brick cobble marble tin"
)

ADVERBS = _set(
    "slightly directly just right immediately far high partially partly all also both close "
    "together away back nearby still always often never again forward forwards backward "
    "backwards upward upwards downward downwards apart aside out overhead outside inside too "
    "very so almost already alone forth proudly"
)
NOUNS_IN_LY = _set(
    "family butterfly dragonfly firefly lily jelly belly assembly anomaly monopoly folly bully "
    "dolly trolly curly ugly lovely friendly silly chilly lonely hilly woolly wooly elderly fly "
    "lively jolly bubbly cuddly prickly wobbly holly gully pulley rally tally ally reply supply "
    "italy july"
)
NOUNS_IN_ING = _set(
    "building painting ring wing king thing ceiling string spring swing earring wedding "
    "dumpling duckling sibling setting gathering meeting greeting marking serving covering "
    "shelving closing blessing evening morning pudding clothing sling railing awning lightning "
    "icing frosting stocking drawing carving piercing being herring starling gosling viking "
    "sterling sapling flooring seedling darling hatchling yearling lettering topping filling "
    "stuffing scaffolding wiring plumbing roofing siding paneling panelling molding moulding "
    "bedding seasoning dressing coating packaging parking writing etching engraving offering "
    "landing crossing clearing opening lining binding padding upholstering housing fencing "
    "decking matting netting shilling pling bling underling nestling fledgling codling "
    "porcelaining outbuilding ending keyring bowstring shoestring offspring wingding"
)
NOUNS_IN_ED = _set(
    "bed shed sled seed weed reed steed moped bread biped thoroughbred centipede watershed "
    "seaweed hundred red feed breed deed need speed riverbed flowerbed seabed daybed bobsled "
    "linseed tweed quadruped"
)
# What an -ing word names together with the noun behind it: "a rocking chair", "hiking boots".
_WORD_PAIRS = (
    "rocking:chair,horse cutting:board chopping:board hiking:boots,boot,trail "
    "riding:boots,boot,hat,helmet sleeping:bag,bags washing:machine,machines "
    "sewing:machine,machines,kit,needle vending:machine,machines "
    "dining:table,tables,room,chair,chairs living:room,rooms watering:can,cans,hole "
    "swimming:pool,pools,trunks,suit running:shoe,shoes "
    "fishing:rod,rods,boat,boats,net,pole,hook racing:car,cars,bike,bikes,horse "
    "sailing:boat,boats,ship,ships shopping:cart,carts,bag,bags,basket,mall,center "
    "parking:lot,lots,meter,meters,garage,space frying:pan,pans mixing:bowl,bowls "
    "baking:sheet,tray,dish,pan rolling:pin,pins,hill,hills walking:stick,sticks,cane "
    "steering:wheel,wheels flying:saucer,saucers boxing:glove,gloves,ring "
    "knitting:needle,needles climbing:rope,ropes,wall reading:lamp,glasses "
    "skipping:rope,ropes lounging:chair measuring:tape,cup,cups,spoon "
    "drinking:glass,glasses,fountain writing:desk ironing:board diving:board "
    "building:block,blocks magnifying:mirror,glass,lens serving:tray,dish"
)


def _thirds(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if _ends_in_consonant_y(verb) else f"{verb}s"


def _pasts(verb: str) -> frozenset[str]:
    """The regular pasts, with and without a doubled consonant: "hopped", "visited"."""
    if verb.endswith("e"):
        return frozenset([f"{verb}d"])
    if _ends_in_consonant_y(verb):
        return frozenset([f"{verb[:-1]}ied"])
    return frozenset([f"{verb}ed", f"{verb}{verb[-1]}ed"])


def _ings(verb: str) -> frozenset[str]:
    """The -ing forms, with and without a doubled consonant: "hopping", "visiting"."""
    if verb.endswith("ie"):
        return frozenset([f"{verb[:-2]}ying"])
    if verb.endswith("e") and not verb.endswith("ee"):
        return frozenset([f"{verb[:-1]}ing"])
    return frozenset([f"{verb}ing", f"{verb}{verb[-1]}ing"])


def _ends_in_consonant_y(verb: str) -> bool:
    return verb.endswith("y") and verb[-2] not in "aeiou"


def _pairs() -> dict[str, frozenset[str]]:
    """The nouns behind each -ing word."""
    pairs = {}
    for entry in _WORD_PAIRS.split():
        word, _, nouns = entry.partition(":")
        pairs[word] = frozenset(nouns.split(","))
    return pairs


WORD_PAIRS = _pairs()
THIRDS = {_thirds(verb): verb for verb in VERBS}
INGS = frozenset(ing for verb in VERBS for ing in _ings(verb))
PASTS = frozenset(past for verb in VERBS for past in _pasts(verb)) | IRREGULAR_PASTS


def is_adjective(word: str) -> bool:
    """Return whether a word only describes a noun, as far as its ending or the lists tell."""
    if word in ADJECTIVES:
        return True
    if word in NOT_ADJECTIVES:
        return False
    last = word.rpartition("-")[2]
    return word.endswith(ADJECTIVE_ENDINGS) or (last != word and last in ADJECTIVES)


def is_participle(word: str) -> bool:
    """Return whether a word looks like "parked", "flying" or "broken"."""
    return is_ing(word) or is_past(word)


def is_ing(word: str) -> bool:
    """Return whether a word is a verb in -ing by its ending."""
    return word.endswith("ing") and len(word) > 4 and word not in NOUNS_IN_ING


def is_past(word: str) -> bool:
    """Return whether a word is a past form, by its ending or the list of irregular ones."""
    if word in NOUNS_IN_ED:
        return False
    return word in PASTS or (word.endswith("ed") and len(word) > 3)


def form_of(word: str) -> Form | None:
    """Return the form of a verb that a word may be; None for a word that is no verb."""
    if is_ing(word):
        return Form.ING
    if is_past(word) and not (word in VERBS and word not in PASTS):
        return Form.PAST
    if word in THIRDS:
        return Form.THIRD
    return Form.PLAIN if word in VERBS else None


def may_be_noun(word: str) -> bool:
    """Return whether a verb's form is as often the name of a thing: "rings", "park"."""
    return word in ALSO_NOUNS or THIRDS.get(word, "") in ALSO_NOUNS


def is_adverb(word: str) -> bool:
    """Return whether a word says how: "slowly", "together"."""
    if word in ADVERBS:
        return True
    return word.endswith("ly") and len(word) > 3 and word not in NOUNS_IN_LY


def is_pair(word: str, following: str) -> bool:
    """Return whether two words name one thing: "rocking" and "chair"."""
    return following in WORD_PAIRS.get(word, frozenset())


def is_agent(word: str) -> bool:
    """Return whether a word names who acts: a person or an animal, as far as the lists tell."""
    if word in AGENTS or word.removesuffix("s") in AGENTS:
        return True
    return word not in NO_AGENTS and word.endswith(AGENT_ENDINGS)


def is_idle(word: str) -> bool:
    """Return whether a word alone names nothing: a verb, an adverb, an adjective."""
    if word == "of" or word in MODALS or is_adverb(word) or is_adjective(word):
        return True
    return form_of(word) is not None and not may_be_noun(word)
