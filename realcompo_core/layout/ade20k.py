"""The 150 classes of the ADE20K scene parsing benchmark and the colours that they are painted in.

The colours are the benchmark's own (http://sceneparsing.csail.mit.edu), which segmentation
ControlNets were trained on. ``road`` and ``skyscraper`` share one.
"""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green and blue, 0..255."""

TABLE = """\
787878 wall
b47878 building, edifice
06e6e6 sky
503232 floor, flooring
04c803 tree
787850 ceiling
8c8c8c road, route
cc05ff bed
e6e6e6 windowpane, window
04fa07 grass
e005ff cabinet
ebff07 sidewalk, pavement
96053d person
787846 earth
08ff33 door
ff0652 table
8fff8c mountain, mount
ccff04 plant
ff3307 curtain, drape
cc4603 chair
0066c8 car, automobile
3de6fa water
ff0633 painting, picture
0b66ff sofa, couch
ff0747 shelf
ff09e0 house
0907e6 sea
dcdcdc mirror
ff095c rug, carpet
7009ff field
08ffd6 armchair
07ffe0 seat
ffb806 fence
0aff47 desk
ff290a rock, stone
07ffff wardrobe, closet
e0ff08 lamp
6608ff bathtub, tub
ff3d06 railing, rail
ffc207 cushion
ff7a08 base, pedestal
00ff14 box
ff0829 column, pillar
ff0599 signboard, sign
0633ff chest of drawers, dresser
eb0cff counter
a09614 sand
00a3ff sink
8c8c8c skyscraper
fa0a0f fireplace, hearth
14ff00 refrigerator, fridge
1fff00 grandstand
ff1f00 path
ffe000 stairs
99ff00 runway
0000ff case, display case
ff4700 pool table, billiard table
00ebff pillow
00adff screen door
1f00ff stairway, staircase
0bc8c8 river
ff5200 bridge
00fff5 bookcase
003dff blind
00ff70 coffee table
00ff85 toilet
ff0000 flower
ffa300 book
ff6600 hill
c2ff00 bench
008fff countertop
33ff00 stove
0052ff palm, palm tree
00ff29 kitchen island
00ffad computer
0a00ff swivel chair
adff00 boat
00ff99 bar
ff5c00 arcade machine
ff00ff hovel, hut
ff00f5 bus, coach
ff0066 towel
ffad00 light, light source
ff0014 truck
ffb8b8 tower
001fff chandelier
00ff3d awning, sunshade
0047ff streetlight, street lamp
ff00cc booth, kiosk
00ffc2 television receiver, television, tv
00ff52 airplane, aeroplane, plane
000aff dirt track
0070ff apparel, clothes
3300ff pole
00c2ff land, soil
007aff bannister, banister, handrail
00ffa3 escalator
ff9900 ottoman
00ff0a bottle
ff7000 buffet, sideboard
8fff00 poster
5200ff stage
a3ff00 van
ffeb00 ship
08b8aa fountain
8500ff conveyer belt, conveyor belt
00ff5c canopy
b800ff washer, washing machine
ff001f plaything, toy
00b8ff swimming pool
00d6ff stool
ff0070 barrel, cask
5cff00 basket
00e0ff waterfall, falls
70e0ff tent
46b8a0 bag
a300ff minibike, motorbike
9900ff cradle
47ff00 oven
ff00a3 ball
ffcc00 food
ff008f step, stair
00ffeb tank, storage tank
85ff00 trade name, brand name
ff00eb microwave
f500ff pot, flowerpot
ff007a animal
fff500 bicycle, bike
0abed4 lake
d6ff00 dishwasher
00ccff screen, projection screen
1400ff blanket
ffff00 sculpture
0099ff hood, exhaust hood
0029ff sconce
00ffcc vase
2900ff traffic light
29ff00 tray
ad00ff ashcan, trash can, dustbin
00f5ff fan
4700ff pier, wharf
7a00ff crt screen
00ffb8 plate
005cff monitor
b8ff00 bulletin board, notice board
0085ff shower
ffd600 radiator
19c2c2 glass, drinking glass
66ff00 clock
5c00ff flag
"""


def _read(table: str) -> dict[str, Colour]:
    rows = [line.split(" ", 1) for line in table.splitlines()]
    return {name: _colour(code) for code, names in rows for name in names.split(", ")}


def _colour(code: str) -> Colour:
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


COLOURS = _read(TABLE)
"""Colour by class name; some classes have further names."""


def names_of(colour: Colour) -> str:
    """Return the classes painted in a colour: ``road or skyscraper``, or nothing."""
    rows = [line.split(" ", 1) for line in TABLE.splitlines()]
    return " or ".join(names.split(",")[0] for code, names in rows if _colour(code) == colour)
