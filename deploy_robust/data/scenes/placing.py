"""How a scene's layout is drawn: chances, measures and colours of what stands in a street."""

from __future__ import annotations

import numpy as np

from deploy_robust.data.scenes.layout import Car, Colour, Layout, Light, Person, Pole, Row, Tree

_CAR_COLOURS: tuple[Colour, ...] = (
    (225, 225, 228), (25, 26, 30), (120, 124, 130), (170, 172, 176), (165, 24, 28), (28, 52, 120),
    (60, 66, 74), (196, 188, 168), (22, 78, 60), (214, 150, 30), (240, 240, 240), (92, 38, 42),
)  # fmt: skip
_WALL_COLOURS: tuple[Colour, ...] = (
    (176, 150, 120), (190, 176, 150), (150, 92, 74), (205, 198, 184), (168, 168, 170), (142, 120, 104),
    (200, 170, 120), (120, 76, 62), (182, 140, 128), (160, 170, 160), (214, 206, 178), (110, 112, 118),
)  # fmt: skip
_CLOTHES: tuple[Colour, ...] = (
    (30, 32, 40), (60, 70, 100), (150, 30, 36), (200, 200, 196), (40, 90, 70), (190, 150, 60),
    (90, 60, 110), (34, 60, 130), (120, 110, 96), (220, 110, 40), (70, 70, 72), (200, 90, 130),
)  # fmt: skip
_SKIN: tuple[Colour, ...] = ((236, 196, 170), (200, 150, 120), (150, 104, 78), (96, 64, 48))

_LIGHTS = (
    Light((66, 118, 196), (178, 204, 226), (1.08, 1.04, 0.98), 0.62, 0.45, 0.04),
    Light((142, 152, 164), (206, 210, 212), (0.88, 0.9, 0.93), 0.88, 0.6, 0.12),
    Light((92, 108, 160), (240, 190, 140), (1.1, 0.92, 0.72), 0.6, 0.5, 0.15),
    Light((44, 54, 92), (170, 130, 130), (0.62, 0.62, 0.74), 0.8, 0.5, 0.45),
    Light((110, 142, 184), (214, 220, 222), (1.0, 0.99, 0.96), 0.72, 0.9, 0.06),
)


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw one street scene; nothing depends on the size of the image."""
    lane = rng.uniform(2.9, 3.6)
    right = lane / 2 + rng.uniform(0.1, 0.5)
    parking = bool(rng.random() < 0.55)
    left_lanes = int(rng.integers(1, 3))
    lanes = tuple(-lane / 2 - lane * k for k in range(left_lanes))
    road = (lanes[-1] - lane - 0.3, right + (2.3 if parking else 0.0))
    pavements = (rng.uniform(1.8, 4.0), rng.uniform(1.8, 4.0))
    verges = (_maybe(rng, 0.4, 1.0, 5.0), _maybe(rng, 0.4, 1.0, 5.0))
    edges = (road[0] - pavements[0] - verges[0], road[1] + pavements[1] + verges[1])

    rows = (_row(rng, -1, edges[0]), _row(rng, 1, edges[1]))
    grey = rng.uniform(68, 112)
    slab = rng.uniform(122, 168)
    return Layout(
        focal=rng.uniform(0.78, 1.05),
        horizon=rng.uniform(0.4, 0.52),
        vanishing=rng.uniform(0.4, 0.6),
        eye=rng.uniform(1.3, 1.75),
        light=_LIGHTS[int(rng.integers(len(_LIGHTS)))],
        sun_side=int(rng.integers(2)) * 2 - 1,
        road=road,
        lanes=lanes,
        pavements=pavements,
        verges=verges,
        crossing=rng.uniform(7, 24) if rng.random() < 0.3 else None,
        asphalt=(grey, grey * rng.uniform(0.97, 1.02), grey * rng.uniform(0.95, 1.06)),
        slabs=(slab, slab * rng.uniform(0.93, 1.0), slab * rng.uniform(0.86, 1.0)),
        grass=(rng.uniform(70, 110), rng.uniform(104, 134), rng.uniform(46, 70)),
        rows=rows,
        trees=_trees(rng, road, edges),
        cars=_cars(rng, road, lanes, lane, parking),
        persons=_persons(rng, road, pavements),
        poles=_poles(rng, road),
    )


def _maybe(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    value = rng.uniform(low, high)
    return value if rng.random() < chance else 0.0


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 8.0) -> Colour:
    base = colours[int(rng.integers(len(colours)))]
    shift = rng.normal(0.0, spread, 3)
    return (float(base[0] + shift[0]), float(base[1] + shift[1]), float(base[2] + shift[2]))


def _row(rng: np.random.Generator, side: int, x: float) -> Row:
    built = rng.choice([0.15, 0.75, 0.95])
    lengths = rng.uniform(8.0, 22.0, 14)
    starts = np.cumsum(lengths) - rng.uniform(8.0, 25.0)
    count = len(starts)
    heights = rng.uniform(5.0, 17.0, count) * (rng.random(count) < built)
    roofs = np.where(rng.random(count) < 0.6, rng.uniform(1.5, 3.5, count), 0.4)
    walls = np.array([_pick(rng, _WALL_COLOURS, 10.0) for _ in range(count)])
    tiles = np.array([_pick(rng, ((120, 62, 48), (84, 74, 72), (100, 80, 66)), 6.0) for _ in range(count)])
    return Row(
        side=side,
        x=x + side * rng.uniform(0.0, 1.0),
        starts=starts.astype(np.float32),
        heights=heights.astype(np.float32),
        roofs=roofs.astype(np.float32),
        walls=walls.astype(np.float32),
        roof_colours=tiles.astype(np.float32),
        pitches=rng.uniform(1.8, 3.4, count).astype(np.float32),
        storeys=rng.uniform(2.7, 3.5, count).astype(np.float32),
        fills=rng.uniform((0.35, 0.4), (0.65, 0.6), (count, 2)).astype(np.float32),
        shops=rng.random(count) < 0.35,
    )


def _trees(rng: np.random.Generator, road: tuple[float, float], edges: tuple[float, float]) -> tuple[Tree, ...]:
    trees = []
    for side, kerb, edge in ((-1, road[0], edges[0]), (1, road[1], edges[1])):
        if rng.random() < 0.35:
            continue
        z = rng.uniform(9, 20)
        spacing = rng.uniform(7, 16)
        while z < 90:
            inner, outer = kerb + side * 1.2, edge + side * rng.uniform(0.0, 2.0)
            green = rng.uniform(70, 105)
            colour = (green * rng.uniform(0.55, 0.85), green, green * rng.uniform(0.35, 0.55))
            radius = rng.uniform(1.3, 2.6)
            trees.append(
                Tree(rng.uniform(min(inner, outer), max(inner, outer)), z, radius, rng.uniform(3.6, 5.6), colour)
            )
            z += spacing * rng.uniform(0.7, 1.4)
    return tuple(trees)


def _cars(
    rng: np.random.Generator, road: tuple[float, float], lanes: tuple[float, ...], lane: float, parking: bool
) -> tuple[Car, ...]:
    cars = []

    def add(x: float, z: float, oncoming: bool) -> None:
        tall = rng.random() < 0.25
        belt, top = (1.05, rng.uniform(1.7, 2.0)) if tall else (rng.uniform(0.86, 0.95), rng.uniform(1.4, 1.52))
        cars.append(
            Car(
                x, z, rng.uniform(1.68, 1.88), rng.uniform(3.8, 4.7), belt, top, _pick(rng, _CAR_COLOURS, 5.0), oncoming
            )
        )

    z = rng.uniform(7, 22)
    while z < 70 and rng.random() < 0.85:  # ahead, in the camera's own lane
        add(rng.uniform(-0.3, 0.3), z, False)
        z += rng.uniform(9, 30)
    for line in lanes:  # oncoming
        z = rng.uniform(6, 26)
        while z < 80 and rng.random() < 0.75:
            add(line - lane / 2 + rng.uniform(-0.3, 0.3), z, True)
            z += rng.uniform(9, 30)
    if parking:
        z = rng.uniform(3, 14)
        while z < 60:
            if rng.random() < 0.7:
                add(road[1] - 1.1, z, bool(rng.random() < 0.15))
            z += rng.uniform(5.4, 8.0)
    return tuple(cars)


def _persons(rng: np.random.Generator, road: tuple[float, float], pavements: tuple[float, float]) -> tuple[Person, ...]:
    persons = []
    for _ in range(int(rng.integers(2, 9))):
        z = rng.uniform(4.5, 26)
        where = rng.random()
        if where < 0.12:  # crossing the road
            x, z = rng.uniform(*road), max(z, 9.0)
        elif where < 0.5:
            x = road[0] - rng.uniform(0.3, pavements[0])
        else:
            x = road[1] + rng.uniform(0.3, pavements[1])
        persons.append(
            Person(
                x=x,
                z=z,
                height=rng.uniform(1.55, 1.92) if rng.random() < 0.88 else rng.uniform(1.0, 1.4),
                stride=rng.uniform(-0.16, 0.16),
                shirt=_pick(rng, _CLOTHES, 10.0),
                trousers=_pick(rng, ((34, 38, 52), (52, 60, 84), (92, 84, 72), (28, 28, 30)), 6.0),
                skin=_pick(rng, _SKIN, 5.0),
                hair=_pick(rng, ((34, 26, 22), (80, 56, 36), (150, 118, 70), (120, 118, 116)), 5.0),
            )
        )
    return tuple(persons)


def _poles(rng: np.random.Generator, road: tuple[float, float]) -> tuple[Pole, ...]:
    poles = []
    for kerb, side in ((road[0], -1), (road[1], 1)):
        z = rng.uniform(6, 18)
        spacing = rng.uniform(14, 28)
        if rng.random() < 0.7:
            while z < 90:  # street lamps
                poles.append(Pole(kerb + side * 0.5, z, rng.uniform(5.5, 7.0), "lamp", (88, 92, 96)))
                z += spacing
        for _ in range(int(rng.integers(0, 3))):
            carries = ("round sign", "square sign", "triangle sign", "traffic light")[int(rng.integers(4))]
            height = rng.uniform(2.7, 3.3)
            colour = ((200, 30, 34), (30, 80, 180), (236, 190, 40))[int(rng.integers(3))]
            poles.append(Pole(kerb + side * rng.uniform(0.4, 0.8), rng.uniform(6, 30), height, carries, colour))
    return tuple(poles)
