"""Names, places and words that the tasks draw from. Each list is split into a training and a held-out part."""


def listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: tuple[str, ...] = listed("""
Anna Ben Carla David Elena Felix Greta Hugo Ines Jonas Kira Leo Maria Nils Olga Paul Rosa Sven Tina Uma Victor Wanda
Yara Zoe Adam Bella Chris Diana Eric Fiona George Hanna Ivan Julia Karl Laura Marco Nina Oscar Petra Quinn Robert Sara
Tom Ursula Vera Walter Xenia Yusuf Zara Alice Bruno Clara Daniel Emma Frank Gloria Henry Irene Jacob Katie Louis Martha
Noah Olivia Peter Ruth Simon Teresa Arthur Beatrice Carlos Dora Edward Flora Gabriel Helen Isaac Jasmin Kevin Lucy
Michael Nora Otto Paula Ralph Sophie Theo Amina Boris Cecilia Dmitri Esther Fatima Gustav Hector Ingrid James Keiko
Lars Mona Nadia Omar Priya Rafael Stella Tariq Viola William Yuki Abel Agnes Akira Aldo Amelie Andrea Anton Astrid
Aurora Axel Bianca Bjorn Camila Casper Chiara Conrad Dalia Darius Edith Elias Elsa Emil Enzo Erika Fabio Farah Finn
Freya Gemma Gianni Gina Hana Hassan Heidi Ida Igor Iris Ismael Ivy Jade Jamal Jana Joel Johan Josef Judith Kai Kamal
Karin Kofi Lena Liam Lina Lorenzo Luca Luisa Magda Mateo Maya Mia Milan Mira Nadine Naomi Nikos Nour Oliver Pablo Pia
Rana Remi Rita Roman Ronja Rosalie Salma Samuel Selma Silas Sofia Tamar Tarek Thea Tobias Valeria Vincent Willa Yasmin
""")

PETS: tuple[str, ...] = listed("""
Rex Luna Bruno Bella Max Fluffy Shadow Ginger Pepper Biscuit Cookie Daisy Rocky Buddy Milo Nala Oreo Paws Rusty Sunny
Toby Whiskers Ziggy Coco Duke Felix Honey Jasper Kiki Lucky Misty Nemo Olive Pixie Roxy Simba Tiger Waffle Bingo Charlie
Dusty Ember Fudge Hazel Kipper Lola Mocha Nugget Peanut Poppy Scout Snowy Teddy Topsy Velvet Willow Zorro Marble Patch
""")

CITIES: tuple[str, ...] = listed("""
Paris Madrid Rome Berlin Lisbon Vienna Warsaw Athens Oslo Stockholm Helsinki Copenhagen Dublin Budapest Brussels Zagreb
Tokyo Beijing Bangkok Hanoi Cairo Nairobi Accra Rabat Dakar Ottawa Havana Lima Quito Santiago Canberra London Munich
Hamburg Milan Naples Turin Venice Florence Barcelona Seville Valencia Porto Lyon Nice Marseille Toulouse Geneva Zurich
Basel Bern Graz Salzburg Prague Krakow Gdansk Riga Vilnius Tallinn Bergen Malmo Uppsala Turku Tampere Glasgow Edinburgh
Bristol Leeds Manchester Boston Chicago Denver Seattle Dallas Houston Austin Phoenix Toronto Montreal Vancouver Calgary
Osaka Kyoto Nagoya Sapporo Mumbai Chennai Kolkata Seoul Busan Manila Sydney Melbourne Perth Adelaide Auckland Lagos
Kampala Tunis Cordoba Rosario Bogota Cali Recife Salvador Curitiba Cusco Ghent Antwerp Bruges Utrecht Rotterdam Delft
""")

WORDS: tuple[str, ...] = listed("""
apple bread chair dream eagle field green house island jacket kitten lemon mountain night orange paper queen river
stone table uncle violin window yellow zebra autumn bridge cloud dance engine forest garden harbour iron journey
king lamp market north ocean piano quiet road silver tower valley winter
""")

# Shorter list whose alphabetical order is learnt.
SORT_WORDS: tuple[str, ...] = listed("""
apple bread cloud dream eagle forest garden house island jacket king lemon mountain night orange piano queen river
stone table uncle violin window yellow zebra
""")

FOODS: tuple[str, ...] = listed("pizza pasta rice soup salad cake curry noodles pancakes sushi tacos cheese")
COLOUR_NAMES: tuple[str, ...] = listed("red blue green yellow orange purple pink brown black white")
SYLLABLES: tuple[str, ...] = listed("""
ba be bi bo bu da de di do du fa fe fi ga go gu ha he hi ka ke ki ko la le li lo lu ma me mi mo mu na ne ni no nu pa pe
pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we ya yo za ze zi zo
""")
ENDINGS: tuple[str, ...] = (*listed("n r s l na ra la ta ni no ro lo x m nd rt sk lda ko"), "")

# Words whose parts make up invented names.
MATERIAL: tuple[str, ...] = listed("""
apple bread chair dream eagle field green house island jacket kitten lemon mountain night orange paper queen river
stone table uncle violin window yellow zebra autumn bridge cloud dance engine forest garden harbour iron journey
market north ocean piano quiet road silver tower valley winter alabaster bamboo calligraphy dolphin elegant fabric
gallop hollow igloo jupiter kayak lavender maple nugget opal pepper quartz raphael sapphire tapir umbrella vanilla
walrus xylem yoghurt zephyr albatross barrow caramel drizzle ember flannel glimmer hazel ivory jasmine kernel linen
mosaic nectar olive pebble quiver ribbon saffron thistle upland velvet willow yonder zinnia adriatic balthazar
cordelia demetrius evander florian gwendolyn hyacinth isidora jeremiah katarina leander mirabel nicodemus ottoline
persephone quillon rosalind sebastian thaddeus ulrich valentina wilhelm ximena yolanda zachary aberdeen brighton
cardiff darwin exeter fairbanks galway hobart inverness jodhpur kyiv limerick monaco newport odessa plymouth
""")
